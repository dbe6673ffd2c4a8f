"""Run one job with Ray Train: workers on one node, resumed from checkpoints, the result written last."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge_common import heartbeat
from bridge_common.errors import StoppedError, UserError
from bridge_common.files import read_json, write_json
from bridge_common.trial_folder import TrialFolder
from ray_bridge.config.fingerprint import fingerprint
from ray_bridge.config.run_spec import RunSpec, check_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import build

TRAIN = "train"  # name of the Ray Train run, and of its folder in the trial's
REFUSED = "refused.json"  # in that folder: why a worker refused, so that its restarts do not try again
REPEATED = (UserError, FloatingPointError)  # errors that a restart from the same checkpoint would meet again
HEALTH_CHECK_S = "0.5"  # between checks of the workers; a trial waits for one at its end, and Ray's default is 2


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
    returned without running anything. Ray has to be initialised.

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
    from ray.train.torch import TorchConfig, TorchTrainer

    from ray_bridge.training.ray_snapshot import remove_damaged_snapshot
    from ray_bridge.training.without_datasets import without_datasets

    remove_damaged_snapshot(trial.path / TRAIN)

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", HEALTH_CHECK_S)
    resources = {"CPU": run.cpus_per_worker} | ({"GPU": 1} if run.use_gpu else {})
    trainer = without_datasets(TorchTrainer)(
        _worker,
        train_loop_config={
            "spec": spec.model_dump(),
            "run": run.model_dump(),
            "folder": str(trial.path),
            "called_at": called_at,
            "cache": str(cache or trial.path.parent.parent / "cache"),
        },
        torch_config=TorchConfig(backend="nccl" if run.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=run.workers,
            use_gpu=run.use_gpu,
            resources_per_worker=resources,
            placement_strategy="STRICT_PACK",
            label_selector={"ray.io/node-id": node_id} if node_id else None,
        ),
        run_config=ray.train.RunConfig(
            name=TRAIN,
            storage_path=str(trial.path),
            failure_config=ray.train.FailureConfig(max_failures=run.max_failures, controller_failure_limit=1),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=list(callbacks),
        ),
    )
    try:
        trainer.fit()
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


def _refuse_other_contents(spec: JobSpec, trial: TrialFolder) -> None:
    planned = (trial.spec() or {}).get("fingerprint")
    named = (spec.plugins, ":" in spec.task, ":" in spec.bridge)
    if any(named) and planned is not None and fingerprint(spec) != planned:
        raise UserError(
            f"{socket.gethostname()} has another version of a plug-in than {trial.path.name} was planned with: use one "
            "version on all nodes, and another --name after an edit"
        )


def _worker(config: Mapping[str, Any]) -> None:
    """Run one worker's part; what is among REPEATED once, restarts refuse at once: they would meet the same."""
    refused = Path(config["folder"]) / TRAIN / REFUSED
    if refused.is_file():
        raise UserError(read_json(refused)["reason"])
    try:
        _train(config)
    except REPEATED as error:
        write_json(refused, {"reason": str(error)})
        raise


def _train(config: Mapping[str, Any]) -> None:
    """Train and evaluate, with signs of life for the process that looks for stalled workers."""
    import ray
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    alive = heartbeat.Heartbeat(
        Path(config["folder"]),
        heartbeat.worker_name(rank),
        rank=rank,
        node_id=ray.get_runtime_context().get_node_id(),
        every_s=heartbeat.interval(config["run"]["progress_timeout"]),
    )
    with alive.beating():
        _train_beating(config, alive)


def _train_beating(config: Mapping[str, Any], alive: heartbeat.Heartbeat) -> None:
    import ray
    import ray.train
    import torch
    from ray.train.torch import get_device

    from ray_bridge.models.weights import auto_classes, read_ahead
    from ray_bridge.training.startup_timer import StartupTimer

    startup = StartupTimer(config["called_at"], on_stage=lambda: alive.sign(heartbeat.LOADING))
    spec, run = build(JobSpec, dict(config["spec"])), build(RunSpec, dict(config["run"]))
    folder = Path(config["folder"])
    _refuse_other_contents(spec, TrialFolder(folder))
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    read_ahead([(spec.source, spec.source_revision), (spec.target, spec.target_revision)], rank, world)
    auto_classes()
    from ray_bridge.distributed import Worker
    from ray_bridge.training.host_memory import keep_freed_memory
    from ray_bridge.training.ray_session import RaySession
    from ray_bridge.training.trainer import Trainer

    torch.set_num_threads(max(1, int(run.cpus_per_worker)))
    if not run.use_gpu:
        keep_freed_memory()
    worker = Worker(rank=rank, world=world, device=get_device(), shards=spec.target_shards)
    startup.done("imports")
    trainer = Trainer(spec, run, folder, RaySession(worker, folder / TRAIN), Path(config["cache"]), startup, alive)
    gpu = torch.cuda.get_device_name(worker.device) if worker.device.type == "cuda" else None
    done = trainer.run()
    if done is None:
        return
    result = done | {"node_id": ray.get_runtime_context().get_node_id(), "gpu": gpu}
    if worker.first:
        trial = TrialFolder(folder)
        record = trial.spec() or {}
        identity = {key: record[key] for key in ("variant", "phase", "fingerprint", "seed", "code") if key in record}
        trial.write_result(identity | result)
    worker.barrier()
