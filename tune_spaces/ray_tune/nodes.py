"""What the cluster's live nodes have, and whether a job fits one of them: a job that fits none would wait for ever."""

import os
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import RunSpec


def live_nodes() -> list[dict[str, Any]]:
    """Ray's records of the nodes that are alive. Needs a connected Ray."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def is_alive(node_id: str) -> bool:
    """Whether a node is alive. A node that has just died may read so for some seconds more."""
    return any(node["NodeID"] == node_id for node in live_nodes())


def needs(run: RunSpec) -> dict[str, float]:
    """Resources that a job needs on one node."""
    return {"GPU": float(run.workers if run.use_gpu else 0), "CPU": run.workers * run.cpus_per_worker}


def check_fits(run: RunSpec, nodes: list[dict[str, Any]] | None = None) -> None:
    """Refuse a job that no live node can hold.

    Raises:
        UserError: saying what the largest node has.
    """
    nodes = live_nodes() if nodes is None else nodes
    wanted = needs(run)
    for kind, unit in (("GPU", "GPUs"), ("CPU", "CPUs")):
        largest = max(nodes, key=lambda node: node["Resources"].get(kind, 0.0), default=None)
        if largest is None:
            raise UserError(_too_few(wanted[kind], unit, "no node is alive", run))
        if wanted[kind] > (has := largest["Resources"].get(kind, 0.0)):
            what = f"the largest of {len(nodes)} live nodes, {largest['NodeManagerAddress']}, has {has:g}"
            raise UserError(_too_few(wanted[kind], unit, what, run))
    if not any(all(node["Resources"].get(kind, 0.0) >= amount for kind, amount in wanted.items()) for node in nodes):
        what = "no live node has both"
        raise UserError(_too_few(wanted["GPU"], f"GPUs and {wanted['CPU']:g} CPUs", what, run))


def check_local(run: RunSpec) -> None:
    """The same before a local Ray starts, from the devices that this process can see.

    Raises:
        UserError: saying how many GPUs there are.
    """
    if run.use_gpu and local_gpus() < run.workers:
        what = f"this machine has {local_gpus()}"
        raise UserError(_too_few(run.workers, "GPUs", what, run) + "; for a cluster set RAY_ADDRESS")


def local_gpus() -> int:
    """GPUs that this process can see, without starting CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit()])


def _too_few(amount: float, unit: str, what: str, run: RunSpec) -> str:
    fewer = "workers" if run.use_gpu else "workers or cpus_per_worker"
    return f"{run.workers} workers need {amount:g} {unit} on one node; {what}. Lower {fewer} by --set, or add a node"


def check_free(run: RunSpec) -> None:
    """Refuse a job where no live node has what it needs free right now. Needs a connected Ray.

    Raises:
        UserError: saying what the freest node has.
    """
    from ray._private.state import available_resources_per_node

    free = list(available_resources_per_node().values())
    wanted = {kind: amount for kind, amount in needs(run).items() if amount}
    if not any(all(node.get(kind, 0.0) >= amount for kind, amount in wanted.items()) for node in free):
        kind = next(iter(wanted))
        most = max((node.get(kind, 0.0) for node in free), default=0.0)
        raise UserError(
            f"this phase starts on free {kind}s alone: it needs {wanted[kind]:g} on one node, and the freest has "
            f"{most:g}. Wait for the others, or --force it"
        )
