"""Where campaigns are kept when nobody says. A second submit resumes only if it looks in the same place."""

import os
from pathlib import Path

STORAGE = "ABLATE_STORAGE"


def default_storage() -> Path:
    """`$ABLATE_STORAGE`; else `~/ablate-runs` in a Ray job; else `runs` in the working directory.

    A Ray job's working directory is an unpacked copy named after its content: after any edit it is another folder,
    and Ray deletes it when nobody uses it.
    """
    if told := os.environ.get(STORAGE):
        return Path(told)
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return Path.home() / "ablate-runs"
    return Path("runs")
