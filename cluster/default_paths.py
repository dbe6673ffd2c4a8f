"""Default folders of campaigns and reports. A second submit resumes the first one only if both use the same folder."""

import os
from pathlib import Path

STORAGE = "ABLATE_STORAGE"
REPORTS = "ABLATE_REPORTS"


def default_storage() -> Path:
    """Return `$ABLATE_STORAGE`; else `~/ablate-runs` in a Ray job; else `runs` in the working directory.

    A Ray job's working directory is an unpacked copy named after its content: after any edit it is another folder,
    and Ray deletes it when nobody uses it.
    """
    if path := os.environ.get(STORAGE):
        return Path(path)
    return Path.home() / "ablate-runs" if _in_ray_job() else Path("runs")


def default_reports() -> Path:
    """Return `$ABLATE_REPORTS`; else `paper_writing`, beside the campaigns in a Ray job, else in the working folder."""
    if path := os.environ.get(REPORTS):
        return Path(path)
    return default_storage() / "paper_writing" if _in_ray_job() else Path("paper_writing")


def _in_ray_job() -> bool:
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
