"""One translator job: a frozen source model, a trained bridge, a frozen target model, and the accuracy they reach."""

from typing import TYPE_CHECKING

from bridge_common.lazy import lazy_names

if TYPE_CHECKING:
    from ray_bridge.config.fingerprint import fingerprint
    from ray_bridge.config.presets import paper, paper_run, preset, split_settings, tiny, tiny_run
    from ray_bridge.config.spec import JobSpec, RunSpec, build, check_run
    from ray_bridge.job import run_job

__version__ = "0.2.0"
__all__ = [
    "JobSpec",
    "RunSpec",
    "build",
    "check_run",
    "fingerprint",
    "paper",
    "paper_run",
    "preset",
    "run_job",
    "split_settings",
    "tiny",
    "tiny_run",
]

_HOMES = {
    "fingerprint": "ray_bridge.config.fingerprint",
    "run_job": "ray_bridge.job",
    **dict.fromkeys(("JobSpec", "RunSpec", "build", "check_run"), "ray_bridge.config.spec"),
    **dict.fromkeys(
        ("paper", "paper_run", "preset", "split_settings", "tiny", "tiny_run"), "ray_bridge.config.presets"
    ),
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
