"""Where campaigns and reports are kept when nobody says. A second submit resumes only if it looks in the same place."""

import os
from pathlib import Path

STORAGE = "ABLATE_STORAGE"
REPORTS = "ABLATE_REPORTS"


def default_storage() -> Path:
    """`$ABLATE_STORAGE`; else `~/ablate-runs` in a Ray job; else `runs` in the working directory.

    A Ray job's working directory is an unpacked copy named after its content: after any edit it is another folder,
    and Ray deletes it when nobody uses it.
    """
    if path := os.environ.get(STORAGE):
        return Path(path)
    return Path.home() / "ablate-runs" if _in_ray_job() else Path("runs")


def default_reports() -> Path:
    """`$ABLATE_REPORTS`; else `paper_writing`, beside the campaigns in a Ray job and in the working directory else."""
    if path := os.environ.get(REPORTS):
        return Path(path)
    return default_storage() / "paper_writing" if _in_ray_job() else Path("paper_writing")


def _in_ray_job() -> bool:
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
