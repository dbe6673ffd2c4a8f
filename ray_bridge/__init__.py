"""One translator job: a frozen source model, a trained bridge, a frozen target model, and the accuracy they reach."""

from typing import TYPE_CHECKING

from bridge_common.lazy import lazy_names
from bridge_common.version import VERSION

if TYPE_CHECKING:
    from ray_bridge.bridges.dit import DiTBridge
    from ray_bridge.bridges.layers import ExactScale
    from ray_bridge.bridges.registry import BRIDGES
    from ray_bridge.bridges.resampler import Resampler
    from ray_bridge.bridges.translator import Bridge
    from ray_bridge.bridges.whitening import Moments, Whitening
    from ray_bridge.config.checkpoint_names import random_twin
    from ray_bridge.config.code_digest import code_digest
    from ray_bridge.config.fingerprint import fingerprint
    from ray_bridge.config.plugins import import_plugin, import_plugins
    from ray_bridge.config.presets import paper, paper_run, preset, split_settings, tiny, tiny_run
    from ray_bridge.config.prompt_format import check_prompt_format
    from ray_bridge.config.registry import Setting, settings_of
    from ray_bridge.config.run_spec import RunSpec, check_run
    from ray_bridge.config.spec import JobSpec
    from ray_bridge.config.validation import build
    from ray_bridge.footprint.job_time import JobTime, TimeEstimator
    from ray_bridge.inference.answers import Answer, SoftTokens
    from ray_bridge.inference.translator import Translator
    from ray_bridge.job import run_job
    from ray_bridge.tasks.bounded.pool import BoundedFunction
    from ray_bridge.tasks.data.check import check_data, pin_data
    from ray_bridge.tasks.data.hub import HubData
    from ray_bridge.tasks.data.rows import DataRow, RowError
    from ray_bridge.tasks.question_answering import HubTask, QuestionTask
    from ray_bridge.tasks.registry import TASKS
    from ray_bridge.tasks.score_file import score_file
    from ray_bridge.tasks.scoring import cut, normalise_number, score_number
    from ray_bridge.tasks.task import Example, Score, Task
    from ray_bridge.training.resident_group import end_resident_workers

__version__ = VERSION
__all__ = [
    "BRIDGES",
    "TASKS",
    "Answer",
    "BoundedFunction",
    "Bridge",
    "DataRow",
    "DiTBridge",
    "ExactScale",
    "Example",
    "HubData",
    "HubTask",
    "JobSpec",
    "JobTime",
    "Moments",
    "QuestionTask",
    "Resampler",
    "RowError",
    "RunSpec",
    "Score",
    "Setting",
    "SoftTokens",
    "Task",
    "TimeEstimator",
    "Translator",
    "Whitening",
    "build",
    "check_data",
    "check_prompt_format",
    "check_run",
    "code_digest",
    "cut",
    "end_resident_workers",
    "fingerprint",
    "import_plugin",
    "import_plugins",
    "normalise_number",
    "paper",
    "paper_run",
    "pin_data",
    "preset",
    "random_twin",
    "run_job",
    "score_file",
    "score_number",
    "settings_of",
    "split_settings",
    "tiny",
    "tiny_run",
]

_HOMES = {
    "BRIDGES": "ray_bridge.bridges.registry",
    "BoundedFunction": "ray_bridge.tasks.bounded.pool",
    "Bridge": "ray_bridge.bridges.translator",
    "DiTBridge": "ray_bridge.bridges.dit",
    "ExactScale": "ray_bridge.bridges.layers",
    "HubData": "ray_bridge.tasks.data.hub",
    "Resampler": "ray_bridge.bridges.resampler",
    "TASKS": "ray_bridge.tasks.registry",
    "Translator": "ray_bridge.inference.translator",
    "build": "ray_bridge.config.validation",
    "check_prompt_format": "ray_bridge.config.prompt_format",
    "code_digest": "ray_bridge.config.code_digest",
    "end_resident_workers": "ray_bridge.training.resident_group",
    "fingerprint": "ray_bridge.config.fingerprint",
    "random_twin": "ray_bridge.config.checkpoint_names",
    "run_job": "ray_bridge.job",
    "score_file": "ray_bridge.tasks.score_file",
    **dict.fromkeys(("JobTime", "TimeEstimator"), "ray_bridge.footprint.job_time"),
    **dict.fromkeys(("Answer", "SoftTokens"), "ray_bridge.inference.answers"),
    **dict.fromkeys(("check_data", "pin_data"), "ray_bridge.tasks.data.check"),
    **dict.fromkeys(("import_plugin", "import_plugins"), "ray_bridge.config.plugins"),
    **dict.fromkeys(("DataRow", "RowError"), "ray_bridge.tasks.data.rows"),
    **dict.fromkeys(("Example", "Score", "Task"), "ray_bridge.tasks.task"),
    **dict.fromkeys(("HubTask", "QuestionTask"), "ray_bridge.tasks.question_answering"),
    **dict.fromkeys(("Moments", "Whitening"), "ray_bridge.bridges.whitening"),
    **dict.fromkeys(("Setting", "settings_of"), "ray_bridge.config.registry"),
    "JobSpec": "ray_bridge.config.spec",
    **dict.fromkeys(("RunSpec", "check_run"), "ray_bridge.config.run_spec"),
    **dict.fromkeys(("cut", "normalise_number", "score_number"), "ray_bridge.tasks.scoring"),
    **dict.fromkeys(
        ("paper", "paper_run", "preset", "split_settings", "tiny", "tiny_run"), "ray_bridge.config.presets"
    ),
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
