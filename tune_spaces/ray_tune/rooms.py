"""How many jobs fit into what is free on a node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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


def without_idle(rooms: Iterable[Room], need: Resources, idle: int) -> tuple[Room, ...]:
    """Return the nodes as if some placements of this campaign, whose resident workers have no trial, had ended.

    Args:
        rooms: the nodes.
        need: resources of one job.
        idle: how many; Ray does not say on which nodes, so they are taken from the first ones that hold any.
    """
    found = []
    for room in rooms:
        held = min(
            (int((room.own.get(name, 0.0) + 1e-9) // amount) for name, amount in need.items() if amount), default=0
        )
        freed = min(idle, held)
        idle -= freed
        available, own = dict(room.available), dict(room.own)
        for name, amount in need.items() if freed else ():
            available[name] = available.get(name, 0.0) + freed * amount
            own[name] = own.get(name, 0.0) - freed * amount
        found.append(Room(total=room.total, available=available, own=own))
    return tuple(found)
