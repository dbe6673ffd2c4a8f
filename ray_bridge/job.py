"""Run one job with Ray Train: workers on one node, resumed from checkpoints, the result written last."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge_common.errors import StoppedError, UserError
from bridge_common.trial_folder import TrialFolder
from ray_bridge.config.run_spec import RunSpec, check_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.training.ray_run import run_on_workers
from ray_bridge.training.ray_snapshot import forget_snapshot
from ray_bridge.training.ray_worker import REFUSED, REPEATED, TRAIN, run_worker
from ray_bridge.training.resident_group import run_resident


def run_job(
    spec: JobSpec,
    run: RunSpec,
    folder: Path,
    *,
    node_id: str | None = None,
    callbacks: Sequence[Any] = (),
    cache: Path | None = None,
) -> dict[str, Any]:
    """Run a job to its end and return its result.

    Called again with the same folder, it continues from the newest checkpoint; the result of a finished job is
    returned without running anything. Ray has to be initialised. With `resident=true`, `end_resident_workers` comes
    before `ray.shutdown`.

    Args:
        spec: what is trained and measured.
        run: workers, batches and how often checkpoints are written.
        folder: the trial's folder, on storage that the workers' node shares.
        node_id: Ray's id of the node on which all workers must run; None lets Ray choose one.
        callbacks: Ray Train callbacks, such as the one that reports metrics to Tune.
        cache: folder of files that trials share; by default `cache` beside the folder `trials`.

    Returns:
        The content of result.json: metrics, node_id, gpu (its name), seconds, checkpoint and what else describes it.

    Raises:
        UserError: if spec and run do not fit together, or a worker refuses, as without a plug-in on its node or where
            memory runs out, or training diverges.
        StoppedError: if the trial was asked to stop (`TrialFolder.request_stop`); it has written a checkpoint.
        ray.train.TrainingFailedError: if the job failed more often than `run.max_failures` allows.
    """
    called_at = time.time()
    trial = TrialFolder(folder.resolve())
    if (known := trial.result()) is not None:
        return known
    check_run(spec, run)
    (trial.path / TRAIN / REFUSED).unlink(missing_ok=True)
    import ray.train

    config = {
        "spec": spec.model_dump(),
        "run": run.model_dump(),
        "folder": str(trial.path),
        "called_at": called_at,
        "cache": str(cache or trial.path.parent.parent / "cache"),
    }
    try:
        if run.resident:
            forget_snapshot(trial.path / TRAIN)
            run_resident(config, run, node_id=node_id, callbacks=callbacks)
        else:
            restarts = run.max_failures
            run_on_workers(
                *(run_worker, config, run, trial.path, TRAIN), node_id=node_id, restarts=restarts, callbacks=callbacks
            )
    except ray.train.WorkerGroupError as error:
        refusals = [failure for failure in error.worker_failures.values() if isinstance(failure, REPEATED)]
        if refusals:  # such as a plug-in that a worker's node does not have, or a loss that is not finite
            raise UserError(str(refusals[0])) from error
        raise
    result = trial.result()
    if result is None and trial.stop_requested():
        raise StoppedError(f"{trial.name} was asked to stop, and goes on from its checkpoint")
    assert result is not None, f"the training job in {trial.path} ended without a result"
    return result
