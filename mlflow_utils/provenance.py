"""Tags that trace a run to what produced it: code, package versions, machine and Ray job."""

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from bridge_common import git
from mlflow_utils import names

ROOT = Path(__file__).resolve().parent.parent


def tags() -> dict[str, str]:
    """Return the tags of every run of this process: commit, branch, host, Ray job, versions of the main packages.

    In a submitted job, commit and branch are those of the checkout that it was submitted from.
    """
    values = {names.HOST: platform.node(), names.VERSION + "python": platform.python_version()}
    for package in names.PACKAGES:
        try:
            values[names.VERSION + package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    code = git.code_facts(ROOT)
    if code["commit"]:
        # Not in MLflow's own tags for them as well: a run's page hides those, and a fact stands in one tag.
        values[names.GIT_COMMIT], values[names.GIT_BRANCH] = code["commit"], code["branch"]
        values[names.GIT_DIRTY] = str(bool(code["changed"]))
    job = ray_job()
    return {**values, names.RAY_JOB: job} if job else values


def diff() -> str:
    """Return the code's uncommitted changes as a patch; empty if there are none, or in a submitted job."""
    return git.uncommitted_diff(ROOT)


def ray_job() -> str | None:
    """Return the id of the submitted Ray job this process runs in, else the job id of a connected driver, else None."""
    metadata_of_job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("metadata") or {}
    submitted = metadata_of_job.get("job_submission_id")
    ray = sys.modules.get("ray")
    if submitted or ray is None or not ray.is_initialized():
        return submitted
    return str(ray.get_runtime_context().get_job_id())
