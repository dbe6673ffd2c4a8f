"""One translator job: a frozen source model, a trained bridge, a frozen target model, and the accuracy they reach."""

from typing import TYPE_CHECKING

from bridge_common.lazy import lazy_names

if TYPE_CHECKING:
    from ray_bridge.bridges.registry import BRIDGES
    from ray_bridge.config.fingerprint import fingerprint
    from ray_bridge.config.plugins import import_plugin, import_plugins
    from ray_bridge.config.presets import paper, paper_run, preset, split_settings, tiny, tiny_run
    from ray_bridge.config.registry import Setting, settings_of
    from ray_bridge.config.spec import JobSpec, RunSpec, check_run
    from ray_bridge.config.validation import build
    from ray_bridge.inference.answers import Answer, SoftTokens
    from ray_bridge.inference.translator import Translator
    from ray_bridge.job import run_job
    from ray_bridge.tasks.data.check import check_data, pin_data
    from ray_bridge.tasks.registry import TASKS
    from ray_bridge.tasks.scoring import normalise_number

__version__ = "0.2.0"
__all__ = [
    "BRIDGES",
    "TASKS",
    "Answer",
    "JobSpec",
    "RunSpec",
    "Setting",
    "SoftTokens",
    "Translator",
    "build",
    "check_data",
    "check_run",
    "fingerprint",
    "import_plugin",
    "import_plugins",
    "normalise_number",
    "paper",
    "paper_run",
    "pin_data",
    "preset",
    "run_job",
    "settings_of",
    "split_settings",
    "tiny",
    "tiny_run",
]

_HOMES = {
    "BRIDGES": "ray_bridge.bridges.registry",
    "TASKS": "ray_bridge.tasks.registry",
    "build": "ray_bridge.config.validation",
    "fingerprint": "ray_bridge.config.fingerprint",
    "normalise_number": "ray_bridge.tasks.scoring",
    "run_job": "ray_bridge.job",
    "Translator": "ray_bridge.inference.translator",
    **dict.fromkeys(("Answer", "SoftTokens"), "ray_bridge.inference.answers"),
    **dict.fromkeys(("check_data", "pin_data"), "ray_bridge.tasks.data.check"),
    **dict.fromkeys(("import_plugin", "import_plugins"), "ray_bridge.config.plugins"),
    **dict.fromkeys(("Setting", "settings_of"), "ray_bridge.config.registry"),
    **dict.fromkeys(("JobSpec", "RunSpec", "check_run"), "ray_bridge.config.spec"),
    **dict.fromkeys(
        ("paper", "paper_run", "preset", "split_settings", "tiny", "tiny_run"), "ray_bridge.config.presets"
    ),
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
