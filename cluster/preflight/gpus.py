"""Reserve enough free GPUs of the right model on one node, all at once, so that no other job takes some meanwhile.

A request that no node can ever meet is refused at once by Ray's table of nodes: Ray and Tune would wait for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge_common.errors import UserError
from cluster.preflight.check import Check
from cluster.preflight.settings import PreflightSettings
from cluster.program import program

KIND = "accelerator_type:"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A live node: `id` and `address` are Ray's; `gpus` and `cpus` its totals; `kind` Ray's name of its accelerator."""

    id: str
    address: str
    gpus: float
    cpus: float
    kind: str | None

    def __str__(self) -> str:
        gpus = f"{self.gpus:g} GPU" + (f" {self.kind}" if self.kind and self.gpus else "")
        return f"{self.address}: {gpus}, {self.cpus:g} CPU"


def live_nodes() -> list[Node]:
    """Return the cluster's live nodes, largest first. Ray must be connected."""
    import ray

    nodes = []
    for row in ray.nodes():
        if row["Alive"]:
            resources = row["Resources"]
            kind = next((name.removeprefix(KIND) for name in resources if name.startswith(KIND)), None)
            gpus, cpus = resources.get("GPU", 0), resources.get("CPU", 0)
            nodes.append(Node(id=row["NodeID"], address=row["NodeManagerAddress"], gpus=gpus, cpus=cpus, kind=kind))
    return sorted(nodes, key=lambda node: (-node.gpus, -node.cpus, node.address))


def candidates(nodes: Sequence[Node], settings: PreflightSettings) -> list[Node]:
    """Return the nodes that can hold the run when they are free."""
    return [node for node in nodes if _lack(node, settings) is None]


def _lack(node: Node, settings: PreflightSettings) -> str | None:
    if node.gpus < settings.gpus:
        return "GPUs"
    if settings.gpus and settings.gpu_kind and settings.gpu_kind.lower() != (node.kind or "").lower():
        return "kind"
    return "CPUs" if node.cpus < settings.cpus else None


def judge_size(nodes: Sequence[Node], settings: PreflightSettings) -> Check | None:
    """Return a failed check that names the largest node if no live node can ever hold the run; else None."""
    if candidates(nodes, settings):
        return None
    of_kind = [n for n in nodes if not settings.gpu_kind or (n.kind or "").lower() == settings.gpu_kind.lower()]
    asked = f"{settings.gpus} GPUs" + (f" of kind {settings.gpu_kind}" if settings.gpu_kind else "")
    wanted = (f"{asked} and " if settings.gpus else "") + f"{settings.cpus:g} CPUs"
    if settings.gpus and settings.gpu_kind and not any(n.gpus for n in of_kind):
        largest = "no node has that kind"
    else:
        largest = (
            f"the largest live node has {of_kind[0].gpus:g} GPUs and {of_kind[0].cpus:g} CPUs" if of_kind else "no node"
        )
    return Check(
        name="GPUs" if settings.gpus else "CPUs",
        status="fail",
        detail=f"needs one node with {wanted}; {largest} ({'; '.join(map(str, nodes)) or 'no live node'})",
        remedy="ask for fewer with --set workers=N, or add a node that has them",
    )


def require_node(settings: PreflightSettings) -> None:
    """Refuse at once a run that no node can hold. Ray must be connected.

    Raises:
        UserError: with what the largest live node has.
    """
    problem = judge_size(live_nodes(), settings)
    if problem:
        raise UserError(f"{problem.detail}: {problem.remedy}")


class Reservation:
    """GPUs of one node, held until `release` or the end of the `with` block.

    Attributes:
        group: the STRICT_PACK placement group; its one bundle holds all GPUs and CPUs.
        node: the node of those GPUs.
    """

    def __init__(self, group: Any, node: Node) -> None:
        self.group, self.node = group, node

    def release(self) -> None:
        """Give the GPUs back; a second call does nothing."""
        import ray

        if self.group is not None and ray.is_initialized():
            ray.util.remove_placement_group(self.group)
        self.group = None

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def reserve(settings: PreflightSettings) -> Reservation:
    """Hold the asked GPUs (and CPUs) on one node, all at once.

    Raises:
        UserError: if no node can ever hold it (at once), or none is free within `timeout_s`.
    """
    import ray
    from ray.util.placement_group import placement_group

    require_node(settings)
    nodes = {node.id: node for node in live_nodes()}
    kinds = {node.kind for node in candidates(list(nodes.values()), settings)}
    bundle: dict[str, float] = {"CPU": settings.cpus}
    if settings.gpus:
        bundle["GPU"] = settings.gpus
    if settings.gpus and settings.gpu_kind:
        bundle[f"{KIND}{kinds.pop()}"] = 0.001  # as Ray spells it
    group = placement_group([bundle], strategy="STRICT_PACK", name="preflight")
    if not group.wait(settings.timeout_s):
        ray.util.remove_placement_group(group)
        free = ray._private.state.available_resources_per_node()
        shown = [f"{n.address}: {free.get(n.id, {}).get('GPU', 0):g} of {n.gpus:g} GPUs free" for n in nodes.values()]
        raise UserError(
            f"no node with {settings.gpus} free GPUs within {settings.timeout_s:g} s ({'; '.join(shown)}): "
            f"wait for the jobs that hold them, or stop them ({program()} stop)"
        )
    table = ray.util.placement_group_table(group)
    return Reservation(group, nodes[table["bundles_to_node_id"][0]])
