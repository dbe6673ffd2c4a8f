"""What every check takes and gives, and the bound that keeps a probe from hanging."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bridge_common.threads import NoAnswerError, bounded

Status = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was looked at.
        status: `pass`; `warn`, a run is possible but something will surprise; `fail`, a run would be refused, break or
            not count; `skip`, does not apply here.
        detail: what was found.
        remedy: what to do about it; empty where there is nothing to do.
        node: address of the node it was found on; empty for the driver or the cluster.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    node: str = ""


@dataclass(frozen=True, kw_only=True)
class PreflightSettings:
    """What a run will need.

    Attributes:
        gpus: GPUs on one node; 0 for a run on CPUs.
        gpu_kind: Ray's name of the accelerator, for example H100; any kind if None.
        cpus: CPUs on that node.
        modules: environment modules that must be loaded on every node; a name without a version takes any version.
        storage: folder of the campaigns; every node must see the same one.
        min_free_gb: free space that the storage needs, in 10^9 bytes.
        tracking_uri: MLflow's; None for the default, a database beside the campaigns.
        models: folders, hub names, or `embedded:...`.
        task: name of the task; task_data: its folder, or None for the hub's data.
        repository: the checkout that is run.
        branch, remote: where its latest state is.
        strict_git: whether a checkout that is dirty or behind fails (a run that counts) or only warns.
        address: Ray's; None for the Ray of this process, $RAY_ADDRESS, or a local one.
        timeout_s: bound of each probe.
    """

    gpus: int = 0
    gpu_kind: str | None = None
    cpus: float = 1
    modules: tuple[str, ...] = ()
    storage: Path = Path("runs")
    min_free_gb: float = 2
    tracking_uri: str | None = None
    models: tuple[str, ...] = ()
    task: str = "synthetic"
    task_data: str | None = None
    repository: Path = field(default_factory=Path.cwd)
    branch: str = "main"
    remote: str = "origin"
    strict_git: bool = False
    address: str | None = None
    timeout_s: float = 30

    @classmethod
    def for_run(cls, job: Any, run: Any, **changes: Any) -> "PreflightSettings":
        """What a job and run spec need. GPU runs are held to the module stack and to a clean, up-to-date checkout."""
        settings = cls(
            gpus=run.workers if run.use_gpu else 0,
            cpus=run.workers * run.cpus_per_worker,
            min_free_gb=50 if run.use_gpu else 2,
            models=(job.source, job.target),
            task=job.task,
            task_data=job.task_data,
            strict_git=run.use_gpu,
        )
        return replace(settings, **changes)


def checked(name: str, probe: Callable[[], list[Check]], timeout_s: float) -> list[Check]:
    """The checks of a probe; one that hangs or breaks becomes a failed check instead of ending the others."""
    try:
        return bounded(probe, timeout_s)
    except NoAnswerError as error:
        return [Check(name=name, status="fail", detail=str(error), remedy=f"see why the {name} does not answer")]
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Check(name=name, status="fail", detail=detail, remedy=f"see why the {name} cannot be read")]
