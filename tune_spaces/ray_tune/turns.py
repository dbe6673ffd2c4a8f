"""Turns among the campaigns of one Ray cluster: no driver takes every place that comes free while another waits.

Ray retries a placement group that waits after up to a second, so a driver whose own job has just ended would nearly
always take the free place first. Each driver therefore announces in Ray's own store what it holds and whether it waits.
A free place goes to the campaign with the smallest share of the cluster, of those with equal shares to the one that has
had its share for longest. All drivers apply this rule to the same announcements; nobody hands out places.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from tune_spaces.ray_tune.rooms import Resources, Room

NAMESPACE = b"ray_bridge/campaigns"
SILENT_S = 20.0  # an announcement that has not changed for so long does not count; it is renewed every two seconds
TAKES_WITHIN_S = 30.0  # a place that fits a campaign and that it has not taken by then is no longer left to it


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A campaign's driver on the cluster, as it announces itself.

    Attributes:
        campaign: the campaign's name.
        folder: its folder, by which a driver knows a dead one of its own campaign.
        driver: id of the driver's Ray job.
        held: jobs that hold a place or are about to take one.
        starting: those of them that Ray does not list yet.
        since: when `held` last changed, in seconds since 1970.
        waits: whether a further trial would start if it had a place.
        need: resources of one job on one node.
        memory: bytes that a job needs.
    """

    campaign: str
    folder: str
    driver: str
    held: int
    since: float
    waits: bool
    need: Resources
    starting: int = 0
    memory: float = 0.0

    def share(self, total: Resources) -> float:
        """Return the largest share that its jobs hold of any resource of the cluster."""
        shares = (self.held * amount / total[name] for name, amount in self.need.items() if total.get(name))
        return max(shares, default=0.0)

    def places(self, rooms: Sequence[Room]) -> int:
        """Return how many of its jobs fit."""
        return sum(room.places(self.need, self.memory) for room in rooms)

    def takes_of(self, need: Resources) -> int:
        """Return how many places of other jobs its starting jobs are about to take at most."""
        size = max((amount / need[name] for name, amount in self.need.items() if need.get(name)), default=0.0)
        return int(-(-self.starting * size // 1))


REQUIRED = {one.name for one in fields(Contender) if one.default is MISSING}  # another version may lack one


def due_before(
    own: Contender, others: Sequence[Contender], free: Sequence[Room], reclaimable: Sequence[Room]
) -> list[Contender]:
    """Return the campaigns to which a free place is left before `own` may take it, the first one first.

    A campaign that holds nothing is waited for although its job is too large for what is free, if it fits once jobs of
    campaigns have ended; otherwise small jobs would keep a large one out for ever. Its further jobs start as they fit.

    Args:
        own: the campaign that would take a place.
        others: the other campaigns of the cluster.
        free: the nodes with what is free now.
        reclaimable: the same, as if no campaign held anything.
    """
    total: dict[str, float] = {}
    for room in free:
        for name, amount in room.total.items():
            total[name] = total.get(name, 0.0) + amount

    def rank(contender: Contender) -> tuple[float, float, str]:
        return contender.share(total), contender.since, contender.driver

    def can_take(other: Contender) -> bool:
        return bool(other.places(free) or (not other.held and other.places(reclaimable)))

    due = [other for other in others if other.waits and rank(other) < rank(own) and can_take(other)]
    return sorted(due, key=rank)


@dataclass
class Turns:
    """Whose turn it is, as one driver sees it over time.

    Attributes:
        passed: campaigns to which a place that fits them was left, with what they held, and since when.
    """

    passed: dict[str, tuple[int, float]] = field(default_factory=dict)

    def left_to(
        self,
        own: Contender,
        others: Sequence[Contender],
        free: Sequence[Room],
        reclaimable: Sequence[Room],
        now: float | None = None,
    ) -> str | None:
        """Return the name of the campaign to which the next free place is left, None if `own` may take it.

        A campaign that does not take a place that fits it within `TAKES_WITHIN_S` is passed over until what it holds
        changes.

        Args:
            own: the campaign that would take a place.
            others: the other campaigns of the cluster.
            free: the nodes with what is free now.
            reclaimable: the same, as if no campaign held anything.
            now: a monotonic time in seconds.
        """
        now = time.monotonic() if now is None else now
        due = due_before(own, others, free, reclaimable)
        fitting = {other.driver: other.held for other in due if other.places(free)}
        self.passed = {
            driver: self.passed[driver] if self.passed.get(driver, (None,))[0] == held else (held, now)
            for driver, held in fitting.items()
        }
        for other in due:
            if other.driver not in fitting or now - self.passed[other.driver][1] < TAKES_WITHIN_S:
                return other.campaign
        return None


class Announcements:
    """What the drivers of campaigns announce in the store of the connected Ray, each under its Ray job's id."""

    def __init__(self) -> None:
        """Begin with no announcement seen."""
        self._seen: dict[bytes, tuple[bytes, float]] = {}

    def announce(self, own: Contender) -> None:
        """Announce a campaign, or renew its announcement."""
        from ray.experimental import internal_kv

        record = {**asdict(own), "beat": time.time(), "pid": os.getpid()}
        internal_kv._internal_kv_put(own.driver.encode(), json.dumps(record).encode(), namespace=NAMESPACE)

    def withdraw(self, driver: str) -> None:
        """Remove a driver's announcement."""
        from ray.experimental import internal_kv

        internal_kv._internal_kv_del(driver.encode(), namespace=NAMESPACE)

    def others(self, driver: str, folder: str) -> tuple[Contender, ...]:
        """Return what drivers of other campaigns announce, without those that have died or no longer renew it.

        What a dead driver announced is removed: to the next campaign it would look new for `SILENT_S`.
        """
        from ray.experimental import internal_kv

        keys = [key for key in internal_kv._internal_kv_list(b"", namespace=NAMESPACE) if key != driver.encode()]
        for key in (dead := set(keys) & _dead_drivers() if keys else set()):
            internal_kv._internal_kv_del(key, namespace=NAMESPACE)
        texts = {key: internal_kv._internal_kv_get(key, namespace=NAMESPACE) for key in keys if key not in dead}
        living = self.living({key: text for key, text in texts.items() if text is not None}, time.monotonic())
        return tuple(other for other in living if other.folder != folder)

    def living(self, texts: Mapping[bytes, bytes], now: float) -> tuple[Contender, ...]:
        """Return the announcements that have changed lately, by this host's clock alone."""
        self._seen = {
            key: self._seen[key] if self._seen.get(key, (None,))[0] == text else (text, now)
            for key, text in texts.items()
        }
        records = [json.loads(text) for key, text in texts.items() if now - self._seen[key][1] < SILENT_S]
        return tuple(_contender(record) for record in records if record.keys() >= REQUIRED)


def _contender(record: Mapping[str, Any]) -> Contender:
    return Contender(**{name: record[name] for name in Contender.__dataclass_fields__ if name in record})


def _dead_drivers() -> set[bytes]:
    from ray._private.state import jobs

    return {str(job["JobID"]).encode() for job in jobs() if job["IsDead"]}
