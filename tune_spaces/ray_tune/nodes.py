"""What the cluster's live nodes have, and whether a job fits one of them: one that fits none would wait forever."""

import os
import tempfile
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import RunSpec

SOCKET_BYTES = 107
"""Longest path of a Unix socket."""
RAY_SESSION = "ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
"""Longest path of a socket of Ray below its temporary folder."""


def live_nodes() -> list[dict[str, Any]]:
    """Return Ray's records of the nodes that are alive. Ray must be connected."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def is_alive(node_id: str) -> bool:
    """Return whether Ray lists a node as alive. A node that has just died may be listed for some seconds more."""
    return any(node["NodeID"] == node_id for node in live_nodes())


def needs(run: RunSpec) -> dict[str, float]:
    """Return the GPUs and CPUs that a job needs on one node."""
    return {"GPU": float(run.workers if run.use_gpu else 0), "CPU": run.workers * run.cpus_per_worker}


def check_fits(run: RunSpec, nodes: list[dict[str, Any]] | None = None) -> None:
    """Refuse a job that no live node can hold.

    Args:
        run: the job's workers.
        nodes: Ray's records of live nodes; those of the connected Ray by default.

    Raises:
        UserError: with what the largest node has.
    """
    nodes = live_nodes() if nodes is None else nodes
    wanted = needs(run)
    for resource, unit in (("GPU", "GPUs"), ("CPU", "CPUs")):
        largest = max(nodes, key=lambda node: node["Resources"].get(resource, 0.0), default=None)
        if largest is None:
            raise UserError(_too_few(wanted[resource], unit, "no node is alive", run))
        if wanted[resource] > (has := largest["Resources"].get(resource, 0.0)):
            what = f"the largest of {len(nodes)} live nodes, {largest['NodeManagerAddress']}, has {has:g}"
            raise UserError(_too_few(wanted[resource], unit, what, run))
    if not any(all(node["Resources"].get(name, 0.0) >= amount for name, amount in wanted.items()) for node in nodes):
        what = "no live node has both"
        raise UserError(_too_few(wanted["GPU"], f"GPUs and {wanted['CPU']:g} CPUs", what, run))


def check_local(run: RunSpec) -> None:
    """Refuse a job that this machine cannot hold, before a local Ray starts.

    Raises:
        UserError: with the number of GPUs that this process can see.
    """
    if run.use_gpu and local_gpus() < run.workers:
        what = f"this machine has {local_gpus()}"
        raise UserError(_too_few(run.workers, "GPUs", what, run) + "; for a cluster set RAY_ADDRESS")


def local_gpus() -> int:
    """Return the number of GPUs that this process can see, without starting CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit()])


def check_free(run: RunSpec) -> None:
    """Refuse a job for which no live node has enough free right now. Ray must be connected.

    Raises:
        UserError: with what the node with most has free.
    """
    from ray._private.state import available_resources_per_node

    free = list(available_resources_per_node().values())
    wanted = {name: amount for name, amount in needs(run).items() if amount}
    if not any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in free):
        name = next(iter(wanted))
        most = max((node.get(name, 0.0) for node in free), default=0.0)
        raise UserError(
            f"this phase starts on free {name}s alone: it needs {wanted[name]:g} on one node, and the freest has "
            f"{most:g}. Wait for the others, or --force it"
        )


def _too_few(amount: float, unit: str, what: str, run: RunSpec) -> str:
    fewer = "workers" if run.use_gpu else "workers or cpus_per_worker"
    return f"{run.workers} workers need {amount:g} {unit} on one node; {what}. Lower {fewer} by --set, or add a node"


def require_ray_can_start() -> None:
    """Refuse a temporary folder whose path is too long for the sockets of a local Ray.

    Raises:
        UserError: with what to set.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    folder = os.environ[name] if name else tempfile.gettempdir()
    most = SOCKET_BYTES - len(RAY_SESSION) - 1
    if len(os.fsencode(folder)) > most:
        raise UserError(
            f"{name} has {len(os.fsencode(folder))} bytes, and Ray's sockets in it would have too long a path: set "
            f"RAY_TMPDIR to a folder of at most {most}, as in RAY_TMPDIR=/tmp"
        )
