"""What is launched: a phase with its options, on so many nodes of a site. All launchers render the same object."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bridge_common.errors import UserError
from cluster.launchers.site import Site
from cluster.variables import secrets_among
from ray_bridge.config.run_spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A phase on nodes of a site.

    Attributes:
        phase: command of the command line.
        arguments: its options.
        nodes: number of nodes that run jobs.
        gpus: GPUs of a node; 0 for a run on CPUs.
        cpus: CPUs of a node.
        memory_gb: memory of a node, in GiB.
        site: where it runs.
        variables: environment variables of the run.
        code: git facts of this checkout, for launchers that copy it without `.git`.
    """

    phase: str
    arguments: tuple[str, ...] = ()
    nodes: int = 1
    gpus: int
    cpus: int
    memory_gb: int
    site: Site
    variables: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, Any] | None = None

    @property
    def secrets(self) -> list[str]:
        """Names of those variables that are secrets, whose values no file of a scheduler may hold."""
        return secrets_among(self.variables)

    @property
    def shown_variables(self) -> dict[str, str]:
        """The variables that are no secrets."""
        secret = self.secrets
        return {name: value for name, value in self.variables.items() if name not in secret}

    @property
    def name(self) -> str:
        """Name of the job, also valid as a DNS label."""
        return f"ablate-{self.phase}"

    def command(self, storage: str) -> list[str]:
        """Return the phase's command line, with a storage unless its options name one."""
        more = [] if self.storage is not None else ["--storage", storage]
        return ["python", "-m", "cluster", self.phase, *self.arguments, *more]

    @property
    def storage(self) -> str | None:
        """The storage that the phase's options name; None if they name none."""
        parts = list(self.arguments)
        named = [part.removeprefix("--storage=") for part in parts if part.startswith("--storage=")]
        named += [value for part, value in pairwise(parts) if part == "--storage"]
        return named[-1] if named else None


def plan_launch(
    phase: str,
    arguments: Sequence[str],
    run: RunSpec,
    *,
    site: Site,
    nodes: int = 1,
    gpus: int | None = None,
    variables: Mapping[str, str] | None = None,
    code: Mapping[str, Any] | None = None,
) -> Launch:
    """Return what to launch for a phase, with nodes large enough for one of its jobs.

    Args:
        phase: command of the command line.
        arguments: its options.
        run: the phase's run spec, which says what a job needs.
        site: where it runs.
        nodes: number of nodes.
        gpus: GPUs of a node; what a job needs if None.
        variables: environment variables of the run.
        code: git facts of this checkout, for launchers that copy it without `.git`.

    Raises:
        UserError: if a node could not hold one job.
    """
    needed = run.workers if run.use_gpu else 0
    gpus = needed if gpus is None else gpus
    if gpus < needed:
        remedy = f"lower them by --set workers={gpus}" if gpus else "leave --gpus out, or --set use_gpu=false"
        raise UserError(f"--gpus {gpus}: a job has {needed} workers on one node; {remedy}")
    least_cpus = math.ceil(run.workers * run.cpus_per_worker) + 1  # 0.5 for the trial's own process
    cpus = site.cpus or max(least_cpus, 8 * gpus)
    if cpus < least_cpus:
        raise UserError(
            f"cpus={cpus}: a job needs {least_cpus} on one node; lower cpus_per_worker or workers with --set"
        )
    return Launch(
        phase=phase,
        arguments=tuple(arguments),
        nodes=nodes,
        gpus=gpus,
        cpus=cpus,
        memory_gb=site.memory_gb or max(8, 64 * gpus),
        site=site,
        variables=dict(variables or {}),
        code=code,
    )
