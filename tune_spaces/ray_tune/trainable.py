"""The Ray Tune trainable: one trial, which calls the job function and reports its metrics.

The job starts a Ray Train run of its own. The trial's actor therefore requests no CPU and no GPU, only a place on the
driver's node: reserving here as well would take the job's resources twice.
"""

import importlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bridge_common import heartbeat, metric_names, trial_files
from bridge_common.errors import StoppedError
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec, build
from tune_spaces.gate.outcome import BRIDGED
from tune_spaces.ray_tune.causes import error_record
from tune_spaces.ray_tune.nodes import is_alive

Job = Callable[..., dict[str, Any]]
DEFAULT_JOB = "ray_bridge:run_job"
CACHE = "cache"
START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
WAIT_FOR_PLACE_S = 7 * 24 * 3600.0
DEATH_DELAY = 20.0  # seconds for which Ray may still list a dead node as alive


class ReportsToTune(Sequence[Any]):
    """The one Ray Train callback that passes a job's metrics on to Tune, made when the job takes it.

    It starts a process, and Tune waits for that process whenever it looks for a trial's results.
    """

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        if index:
            raise IndexError(index)
        from ray.tune.integration.ray_train import TuneReportCallback

        return TuneReportCallback()


def load_job(job: Job | str) -> Job:
    """Return the job function named by `MODULE:FUNCTION`, or the function itself if one is given."""
    if not isinstance(job, str):
        return job
    module, _, name = job.partition(":")
    function: Job = getattr(importlib.import_module(module), name)
    return function


def tune_trial(config: dict[str, Any], job: Job | str = DEFAULT_JOB, attempt: str = "") -> None:
    """Run one trial to its end and report its metrics with `final`.

    Args:
        config: what the searcher suggested; the trial's folder has its `spec.json`.
        job: the job function.
        attempt: name of the driver's start. A job that raised an error in this start is not tried again, since it would
            raise it again; one whose actor, controller or node died is.
    """
    from ray import tune

    trial = TrialFolder(Path(config["folder"]))
    result = trial.result()
    if result is None:
        _raise_earlier_error(trial, attempt)
        result = _run(load_job(job), config, trial, attempt)
    if result is None:
        return  # asked to stop: without a final result it goes on at the next start
    metrics = result["metrics"]
    if metric_names.accuracy(BRIDGED) not in metrics:
        raise ValueError(f"the job's metrics lack {metric_names.accuracy(BRIDGED)}")
    tune.report(
        {
            **metrics,
            "final": True,
            "node_id": result.get("node_id"),
            "seconds": result.get("seconds"),
            "checkpoint_path": result.get("checkpoint"),
        }
    )


def _run(job: Job, config: dict[str, Any], trial: TrialFolder, attempt: str) -> dict[str, Any] | None:
    from ray.exceptions import RayActorError

    record = trial.spec()
    assert record is not None, f"{trial.path} has no {trial_files.SPEC}: the searcher writes it first"
    heartbeat.clear(trial.path)
    trial.append_status(trial_files.RUNNING)
    started = time.time()
    try:
        spec, run = build(JobSpec, record["spec"]), build(RunSpec, record["run"])
        with _alive(trial, run).beating():
            result = _run_on_node(job, spec, run, trial.path, config.get("prefer_node"))
    except StoppedError:
        trial.append_status(trial_files.KILLED)
        return None
    except Exception as error:
        if isinstance(error, RayActorError):
            raise  # the job's controller died: Tune starts the trial again, and the job goes on from its checkpoint
        trial.write_error(error_record(error, attempt))  # before the status: who reads that looks for the cause
        trial.append_status(trial_files.FAILED)
        raise
    if not trial.finished:
        facts = {"variant": config["variant"], "fingerprint": config["fingerprint"], "seconds": time.time() - started}
        trial.write_result({**facts, **result})
    trial.clear_error()
    trial.append_status(trial_files.FINISHED)
    return result


def _alive(trial: TrialFolder, run: RunSpec) -> heartbeat.Heartbeat:
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    every_s = heartbeat.interval(run.progress_timeout)
    return heartbeat.Heartbeat(trial.path, node_id=node_id, doing="waiting for its job", every_s=every_s)


def _run_on_node(job: Job, spec: JobSpec, run: RunSpec, folder: Path, node_id: str | None) -> dict[str, Any]:
    """Run the job on the preferred node; if that node is why it failed, resume it on any node."""
    cache = folder.parents[2] / CACHE
    if node_id is not None:
        try:
            return job(spec, run, folder, node_id=node_id, callbacks=ReportsToTune(), cache=cache)
        except Exception as error:
            if not _node_is_at_fault(error, node_id):
                raise
    # Other jobs hold the resources, or the node that held this job has died: on any node it waits for its turn.
    before = os.environ.get(START_TIMEOUT)
    os.environ[START_TIMEOUT] = str(WAIT_FOR_PLACE_S)
    try:
        return job(spec, run, folder, node_id=None, callbacks=ReportsToTune(), cache=cache)
    finally:
        if before is None:
            del os.environ[START_TIMEOUT]
        else:
            os.environ[START_TIMEOUT] = before


def _node_is_at_fault(error: BaseException, node_id: str) -> bool:
    """Return whether a job restricted to a node failed because it was not placed there, or because the node died."""
    errors = set()
    cause: BaseException | None = error
    while cause is not None:
        errors.add(type(cause).__name__)
        cause = cause.__cause__
    if "ControllerError" in errors:
        return True
    deadline = time.monotonic() + (DEATH_DELAY if "WorkerGroupError" in errors else 0)
    while is_alive(node_id):
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def _raise_earlier_error(trial: TrialFolder, attempt: str) -> None:
    error = trial.error()
    if error and error["attempt"] == attempt:
        raise RuntimeError(error["error"])
