"""How many jobs the cluster holds at once: a place is room for a whole job on one node.

Jobs that this driver has just started take some seconds until they hold their resources, and Ray's report of what is
free lags behind by about a second. So the room of this driver's own jobs is read from Ray's placement groups, which are
exact, and only that of others from the report.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_bridge import RunSpec
from tune_spaces.ray_tune.nodes import live_nodes, needs

WORKER_MEMORY = 1.5 * 2**30  # bytes of a worker on a CPU: without GPUs it is memory that ends first
LOOK_EVERY = 1.0  # seconds for which an answer of Ray is used
LOOK_SHARE = 20  # at most one part in so many of the driver's time is spent on asking

Resources = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Room:
    """One live node.

    Attributes:
        total: its resources.
        available: what Ray reports as free.
        own: what placement groups of this driver hold on it.
    """

    total: Resources
    available: Resources
    own: Resources = field(default_factory=dict)

    def places(self, need: Resources, memory: float = 0.0) -> int:
        """Return how many jobs fit into what is free.

        Args:
            need: resources of one job.
            memory: bytes that a job needs; they never count against a node's first job.
        """
        counts = [
            (min(self.available.get(name, 0.0), self.total.get(name, 0.0) - self.own.get(name, 0.0)) + 1e-9) // amount
            for name, amount in need.items()
            if amount
        ]
        fits = int(max(0.0, min(counts, default=0.0)))
        if memory and "memory" in self.total:
            held = max((self.own.get(name, 0.0) // amount for name, amount in need.items() if amount), default=0.0)
            fits = min(fits, int(max(0.0, max(1.0, self.total["memory"] // memory) - held)))
        return fits


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What Ray says of places, at one moment.

    Attributes:
        placed: jobs of this driver that hold their resources.
        waiting: jobs of this driver that wait for theirs.
        free: further jobs that would fit now.
    """

    placed: int
    waiting: int
    free: int

    @property
    def slots(self) -> int:
        """How many of this driver's jobs may run at once."""
        return self.placed + self.free


class Places:
    """Counts places for jobs of one run spec in the connected Ray."""

    def __init__(self, run: RunSpec) -> None:
        """Remember what a job needs; Ray is asked by `standing`.

        Args:
            run: workers of each job.
        """
        self.need = needs(run)
        self.memory = 0.0 if run.use_gpu else run.workers * WORKER_MEMORY
        self._known: Standing | None = None
        self._ask_after = 0.0

    def standing(self) -> Standing:
        """Return the present counts, at most about a second old."""
        if self._known is None or time.monotonic() >= self._ask_after:
            began = time.monotonic()
            self._known = self._ask()
            now = time.monotonic()
            self._ask_after = now + max(LOOK_EVERY, LOOK_SHARE * (now - began))
        return self._known

    def _ask(self) -> Standing:
        import ray
        from ray._private.state import available_resources_per_node
        from ray.util.placement_group import placement_group_table

        groups = own_groups(placement_group_table().values(), ray.get_runtime_context().get_job_id())
        own = held_by_node(groups)
        available = available_resources_per_node()
        rooms = [
            Room(total=node["Resources"], available=available.get(node["NodeID"], {}), own=own.get(node["NodeID"], {}))
            for node in live_nodes()
        ]
        placed = sum(group["state"] == "CREATED" for group in groups)
        return Standing(
            placed=placed,
            waiting=len(groups) - placed,
            free=sum(room.places(self.need, self.memory) for room in rooms),
        )


def own_groups(table: Iterable[Mapping[str, Any]], job_id: str) -> list[Mapping[str, Any]]:
    """Return the placement groups that jobs of one Ray driver hold or wait for.

    The id of a group ends with that of the driver's Ray job. Groups of trials' actors hold neither CPU nor GPU.
    """
    return [
        group
        for group in table
        if group["placement_group_id"].endswith(job_id)
        and group["state"] != "REMOVED"
        and any(name in ("CPU", "GPU") for bundle in group["bundles"].values() for name in bundle)
    ]


def held_by_node(groups: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the resources that placement groups hold, by the id of the node."""
    held: dict[str, dict[str, float]] = {}
    for group in groups:
        for index, node_id in group["bundles_to_node_id"].items():
            if node_id:
                own = held.setdefault(node_id, {})
                for name, amount in group["bundles"][index].items():
                    own[name] = own.get(name, 0.0) + amount
    return held
