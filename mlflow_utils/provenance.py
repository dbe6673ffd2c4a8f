"""Where a record comes from: code, versions, machine and job, so that a number can be traced back to what made it."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from mlflow_utils import names

ROOT = Path(__file__).resolve().parent.parent
DIFF_LIMIT = 4 << 20  # bytes


def tags() -> dict[str, str]:
    """Tags that every run of this process carries: commit, host, Ray job and the versions of the main packages."""
    found = {names.HOST: platform.node(), names.VERSION + "python": platform.python_version()}
    for package in names.PACKAGES:
        try:
            found[names.VERSION + package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = _git("rev-parse", "HEAD") if _is_checkout() else None
    if commit:
        found[names.GIT_COMMIT] = found[names.SOURCE_COMMIT] = commit.strip()
        found[names.GIT_DIRTY] = str(bool(_git("status", "--porcelain")))
    job = ray_job()
    return {**found, names.RAY_JOB: job} if job else found


def diff() -> str:
    """Uncommitted changes of the code against its commit, as a patch; empty when there are none or no repository."""
    text = (_git("diff", "HEAD") if _is_checkout() else None) or ""
    return text if len(text) <= DIFF_LIMIT else text[:DIFF_LIMIT] + "\n(cut)\n"


def ray_job() -> str | None:
    """The id of the Ray job this process runs in: the submitted one's, or that of a driver which has joined Ray."""
    metadata_of_job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("metadata") or {}
    submitted = metadata_of_job.get("job_submission_id")
    ray = sys.modules.get("ray")
    if submitted or ray is None or not ray.is_initialized():
        return submitted
    return str(ray.get_runtime_context().get_job_id())


def _is_checkout() -> bool:
    """Whether the code itself is a repository's root; installed code may lie inside another project's repository."""
    top = _git("rev-parse", "--show-toplevel")
    return top is not None and Path(top.strip()).resolve() == ROOT


def _git(*arguments: str) -> str | None:
    """Output of a git command in the code's folder; None where git or the repository is absent."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
