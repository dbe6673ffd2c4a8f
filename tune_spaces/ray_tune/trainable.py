"""The Ray Tune trainable: one trial, which calls the job function and reports what it found.

The job starts a Ray Train run of its own. The trial's actor therefore asks for no CPU and no GPU, only for a place on
the driver's node: reserving here as well would take the job's resources twice.
"""

import importlib
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bridge_common import metric_names, trial_files
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec
from tune_spaces.gate.evidence import BRIDGED
from tune_spaces.ray_tune.nodes import is_alive

Job = Callable[..., dict[str, Any]]
DEFAULT_JOB = "ray_bridge.job:run_job"
CACHE = "cache"
DEATH_NOTICE = 20.0  # seconds in which a dead node may still read as alive


def load_job(job: Job | str) -> Job:
    """The job function behind `module:function`, imported where it runs."""
    if not isinstance(job, str):
        return job
    module, _, name = job.partition(":")
    found: Job = getattr(importlib.import_module(module), name)
    return found


def tune_trial(config: dict[str, Any], job: Job | str = DEFAULT_JOB, attempt: str = "") -> None:
    """Run one trial to its end and report its metrics with `final`.

    Args:
        config: what the searcher suggested; the trial's folder holds its `spec.json`.
        job: the job function.
        attempt: name of the driver's start. A job that has raised in this start is not tried again, since it would
            raise again; one whose actor or node died is.
    """
    from ray import tune

    trial = TrialFolder(Path(config["folder"]))
    found = trial.result()
    if found is None:
        _raise_again(trial, attempt)
        found = _run(load_job(job), config, trial, attempt)
    metrics = found["metrics"]
    if metric_names.accuracy(BRIDGED) not in metrics:
        raise ValueError(f"the job's metrics lack {metric_names.accuracy(BRIDGED)}")
    tune.report(
        {
            **metrics,
            "final": True,
            "node_id": found.get("node_id"),
            "seconds": found.get("seconds"),
            "checkpoint_path": found.get("checkpoint"),
        }
    )


def _run(job: Job, config: dict[str, Any], trial: TrialFolder, attempt: str) -> dict[str, Any]:
    given = trial.spec()
    assert given is not None, f"{trial.path} has no {trial_files.SPEC}: the searcher writes it first"
    spec, run = JobSpec.model_validate(given["spec"]), RunSpec.model_validate(given["run"])
    trial.append_status(trial_files.RUNNING)
    started = time.time()
    try:
        found = _placed(job, spec, run, trial.path, config.get("prefer_node"))
    except Exception as error:
        trial.append_status(trial_files.FAILED)
        trial.write_error({"attempt": attempt, "error": _line(error), "traceback": traceback.format_exc()})
        raise
    if not trial.finished:
        kept = {"variant": config["variant"], "fingerprint": config["fingerprint"], "seconds": time.time() - started}
        trial.write_result({**kept, **found})
    trial.clear_error()
    trial.append_status(trial_files.FINISHED)
    return found


def _placed(job: Job, spec: JobSpec, run: RunSpec, folder: Path, node_id: str | None) -> dict[str, Any]:
    """Run the job on the preferred node, and anywhere if that node is why it failed; it goes on where it was."""
    from ray.tune.integration.ray_train import TuneReportCallback

    cache = folder.parents[2] / CACHE
    try:
        return job(spec, run, folder, node_id=node_id, callbacks=[TuneReportCallback()], cache=cache)
    except Exception as error:
        if node_id is None or not _place_is_at_fault(error, node_id):
            raise
    return job(spec, run, folder, node_id=None, callbacks=[TuneReportCallback()], cache=cache)


def _place_is_at_fault(error: BaseException, node_id: str) -> bool:
    """Whether a job that asked for a node failed because it could not be placed there, or because the node died."""
    kinds = set()
    cause: BaseException | None = error
    while cause is not None:
        kinds.add(type(cause).__name__)
        cause = cause.__cause__
    if "ControllerError" in kinds:
        return True
    ends = time.monotonic() + (DEATH_NOTICE if "WorkerGroupError" in kinds else 0)
    while is_alive(node_id):
        if time.monotonic() > ends:
            return False
        time.sleep(1)
    return True


def _raise_again(trial: TrialFolder, attempt: str) -> None:
    error = trial.error()
    if error and error["attempt"] == attempt:
        raise RuntimeError(error["error"])


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
