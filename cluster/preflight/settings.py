"""What the checks before a run compare nodes, models, data, storage and checkout with."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.tasks.data.check import hub_name

if TYPE_CHECKING:  # reading lengths of texts imports torch
    from cluster.preflight.requirements import Requirements


@dataclass(frozen=True, kw_only=True)
class PreflightSettings:
    """What a run needs.

    Attributes:
        workers: worker processes of a job, on one node.
        gpus: GPUs on one node; 0 for a run on CPUs.
        gpu_kind: Ray's name of the accelerator, for example H100; any kind if None.
        cpus: CPUs on that node.
        modules: environment modules that must be loaded on every node; a name without a version takes any version.
        storage: folder of the campaigns; every node must see the same one.
        min_free_gb: free space that the storage needs, in 10^9 bytes.
        tracking_uri: MLflow's; None for the default, a database beside the campaigns.
        models: folders, hub names, or `embedded:...`; the first two are the base's source and target.
        bytes_per_parameter: of the models once they are loaded.
        bytes_per_target_parameter: of the target if it has others, None if it has the same.
        shards: workers that hold the base's target between them.
        task: name of the task.
        task_data: folder of its data; None for the hub's.
        dataset: hub name of its data; None if it reads none.
        repository: the checkout that is run.
        branch: the remote's branch that the checkout should be on.
        remote: name of the remote that others fetch from.
        strict_git: fail, rather than warn, if the checkout has changes or is not at the remote's latest commit.
        address: Ray's; None for the Ray of this process, $RAY_ADDRESS, or a local one.
        timeout_s: limit of each probe, in seconds.
        requirements: context and memory of the trials, None if they are not judged.
    """

    workers: int = 1
    gpus: int = 0
    gpu_kind: str | None = None
    cpus: float = 1
    modules: tuple[str, ...] = ()
    storage: Path = Path("runs")
    min_free_gb: float = 2
    tracking_uri: str | None = None
    models: tuple[str, ...] = ()
    bytes_per_parameter: int = 4
    bytes_per_target_parameter: int | None = None
    shards: int = 1
    task: str = "synthetic"
    task_data: str | None = None
    dataset: str | None = None
    repository: Path = field(default_factory=Path.cwd)
    branch: str = "main"
    remote: str = "origin"
    strict_git: bool = False
    address: str | None = None
    timeout_s: float = 30
    requirements: "Requirements | None" = None

    @classmethod
    def for_run(cls, job: JobSpec, run: RunSpec, **changes: object) -> "PreflightSettings":
        """Return what a job and run spec need. GPU runs also need a clean, up-to-date checkout and 50 GB of disk."""
        settings = cls(
            workers=run.workers,
            gpus=run.workers if run.use_gpu else 0,
            cpus=run.workers * run.cpus_per_worker,
            min_free_gb=50 if run.use_gpu else 2,
            models=(job.source, job.target),
            bytes_per_parameter=4 if job.model_dtype == "float32" else 2,
            bytes_per_target_parameter=1 if job.target_precision == "int8" else None,
            shards=job.target_shards,
            task=job.task,
            task_data=job.task_data,
            dataset=hub_name(job),
            strict_git=run.use_gpu,
        )
        return replace(settings, **changes)  # type: ignore[arg-type]
