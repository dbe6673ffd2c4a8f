"""One worker's part of a job under Ray Train: refuse what a restart would meet again, load, train, write the result."""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge_common import heartbeat
from bridge_common.errors import UserError
from bridge_common.files import read_json, write_json
from bridge_common.trial_folder import TrialFolder
from ray_bridge.config.fingerprint import fingerprint
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import build

if TYPE_CHECKING:
    from ray_bridge.distributed import Worker
    from ray_bridge.training.resident_models import ResidentModels
    from ray_bridge.training.session import Session

TRAIN = "train"  # name of the Ray Train run, and of its folder in the trial's
REFUSED = "refused.json"  # in that folder: why a worker refused, so that its restarts do not try again
REPEATED = (UserError, FloatingPointError)  # errors that a restart from the same checkpoint would meet again
MakeSession = Callable[["Worker", Path], "Session"]


def run_worker(
    config: Mapping[str, Any],
    make_session: MakeSession | None = None,
    models: "ResidentModels | None" = None,
) -> None:
    """Run one worker's part of a job.

    An error that would come again (`REPEATED`) is recorded, so that restarts refuse at once instead of meeting it.

    Args:
        config: `spec`, `run`, the trial's `folder`, the folder `cache`, and `called_at`, when the job was called.
        make_session: returns the link to whoever keeps checkpoints, for a worker and their folder; Ray Train's by
            default.
        models: keeps the frozen models for this process's next job; None loads them for this one alone.
    """
    refused = Path(config["folder"]) / TRAIN / REFUSED
    if refused.is_file():
        raise UserError(read_json(refused)["reason"])
    try:
        _train(config, make_session, models)
    except REPEATED as error:
        write_json(refused, {"reason": str(error)})
        raise


def _train(config: Mapping[str, Any], make_session: MakeSession | None, models: "ResidentModels | None") -> None:
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
        _train_beating(config, alive, make_session, models)


def _train_beating(
    config: Mapping[str, Any],
    alive: heartbeat.Heartbeat,
    make_session: MakeSession | None,
    models: "ResidentModels | None",
) -> None:
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
    if models is None or not models.may_hold(spec):
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
    session = (make_session or RaySession)(worker, folder / TRAIN)
    trainer = Trainer(spec, run, folder, session, Path(config["cache"]), startup, alive, models)
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


def _refuse_other_contents(spec: JobSpec, trial: TrialFolder) -> None:
    planned = (trial.spec() or {}).get("fingerprint")
    named = (spec.plugins, ":" in spec.task, ":" in spec.bridge)
    if any(named) and planned is not None and fingerprint(spec) != planned:
        raise UserError(
            f"{socket.gethostname()} has another version of a plug-in than {trial.path.name} was planned with: use one "
            "version on all nodes, and another --name after an edit"
        )
