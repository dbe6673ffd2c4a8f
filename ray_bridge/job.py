"""One job as Ray Train runs it: workers on one node, resumed from checkpoints, its result written last."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.files import read_json, write_json
from ray_bridge.spec import JobSpec, RunSpec, build

RESULT = "result.json"


def run_trial(
    spec: JobSpec,
    run: RunSpec,
    folder: Path,
    *,
    node_id: str | None = None,
    callbacks: Sequence[Any] = (),
    cache: Path | None = None,
) -> dict[str, Any]:
    """Run a job to its end and return its result.

    Called again with the same folder, it goes on from the newest checkpoint; a finished job is returned as it is.

    Args:
        spec: what is measured.
        run: workers and batches.
        folder: the trial's folder, absolute, on storage that the workers see too.
        node_id: node on which all workers must run, where given.
        callbacks: Ray Train callbacks, such as the one that hands metrics to Tune.
        cache: folder of outputs that trials share; by default beside the trials' folder.

    Returns:
        The content of result.json: metrics, node_id, seconds, checkpoint and what else describes the run.

    Raises:
        UserError: for settings that no worker could carry out.
        RuntimeError: when the job failed for good.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    folder = folder.resolve()
    if (folder / RESULT).is_file():
        return read_json(folder / RESULT)
    resources = {"CPU": run.cpus_per_worker} | ({"GPU": 1} if run.use_gpu else {})
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "spec": spec.model_dump(),
            "run": run.model_dump(),
            "folder": str(folder),
            "cache": str(cache or folder.parent.parent / "cache"),
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
            name="train",
            storage_path=str(folder),
            failure_config=ray.train.FailureConfig(max_failures=run.max_failures, controller_failure_limit=1),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=list(callbacks),
        ),
    )
    outcome = trainer.fit()
    if outcome.error is not None:
        raise RuntimeError(f"the training job in {folder} failed") from outcome.error
    return read_json(folder / RESULT)


def _worker(config: Mapping[str, Any]) -> None:
    import ray
    import ray.train
    import torch
    from ray.train.torch import get_device

    from ray_bridge.training import Job
    from ray_bridge.workers import Worker

    run = build(RunSpec, dict(config["run"]))
    context = ray.train.get_context()
    torch.set_num_threads(max(1, int(run.cpus_per_worker)))
    worker = Worker(rank=context.get_world_rank(), world=context.get_world_size(), device=get_device())
    folder = Path(config["folder"])
    job = Job(build(JobSpec, dict(config["spec"])), run, folder, RaySession(worker), Path(config["cache"]))
    result = job.run() | {"node_id": ray.get_runtime_context().get_node_id()}
    if worker.first:
        about = read_json(folder / "spec.json") if (folder / "spec.json").is_file() else {}
        identity = {key: about[key] for key in ("variant", "phase", "fingerprint", "seed") if key in about}
        write_json(folder / RESULT, identity | result)
    worker.barrier()


class RaySession:
    """A worker's link to its Ray Train run."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def latest(self) -> Path | None:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else Path(checkpoint.to_directory())

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        import ray.train

        packed = None if checkpoint is None else ray.train.Checkpoint.from_directory(str(checkpoint))
        ray.train.report(dict(metrics), checkpoint=packed)
