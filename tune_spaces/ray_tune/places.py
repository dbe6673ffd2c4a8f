"""How many jobs the cluster holds at once: a place is room for a whole job on one node.

Jobs that this driver has just started take some seconds until they hold their resources, and Ray's report of what is
free lags behind by about a second. So the room of this driver's own jobs is read from Ray's placement groups, which are
exact, and only that of others from the report.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray_bridge import RunSpec
from tune_spaces.ray_tune.nodes import live_nodes, needs
from tune_spaces.ray_tune.rooms import Room, without_idle
from tune_spaces.ray_tune.turns import Announcements, Contender, Turns
from tune_spaces.records.campaign_folder import CampaignFolder

WORKER_MEMORY = 1.5 * 2**30  # bytes of a worker on a CPU: without GPUs it is memory that ends first
LOOK_EVERY = 1.0  # seconds for which an answer of Ray is used
YOUNG_S = 30.0  # within which a job that has started comes to hold its resources
SETTLES_S = 5.0  # within which Ray places a job that fits, and frees what one that has ended held
LOOK_SHARE = 20  # at most one part in so many of the driver's time is spent on asking


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What Ray says of places, at one moment.

    Attributes:
        placed: jobs of this driver that hold their resources.
        waiting: jobs of this driver that wait for theirs.
        stuck: those of them that have waited for longer than Ray needs to place a job.
        free: further jobs that would fit now.
        rooms: the live nodes.
        reclaimable: the same, as if no campaign of the cluster held anything.
        others: other campaigns that run on the cluster.
    """

    placed: int
    waiting: int
    free: int
    stuck: int = 0
    rooms: tuple[Room, ...] = ()
    reclaimable: tuple[Room, ...] = ()
    others: tuple[Contender, ...] = ()

    @property
    def slots(self) -> int:
        """How many of this driver's jobs may run at once."""
        return self.placed + self.free

    def without_room(self, started: int) -> int:
        """Return how many of this driver's started trials wait for room that the cluster lacks.

        One that follows another waits for a moment although it fits: until Ray has placed it, or until what the other
        one held is free.

        Args:
            started: trials of this driver that have started and not ended.
        """
        return max(0, min(self.stuck, started - self.slots))


class Pending:
    """Remembers since when placement groups wait for their resources."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._since: dict[str, float] = {}

    def stuck(self, groups: Iterable[Mapping[str, Any]], now: float) -> int:
        """Return how many of a driver's groups have waited for more than `SETTLES_S`.

        Args:
            groups: all groups of the driver, as `own_groups` returns them.
            now: the present time, in seconds of any clock that only goes forward.
        """
        waiting = [group["placement_group_id"] for group in groups if group["state"] != "CREATED"]
        self._since = {group: self._since.get(group, now) for group in waiting}
        return sum(now - since > SETTLES_S for since in self._since.values())


class Places:
    """Counts places for jobs of one run spec in the connected Ray."""

    def __init__(self, run: RunSpec, campaign: CampaignFolder) -> None:
        """Remember what a job needs; Ray is asked by `standing`.

        Args:
            run: workers of each job.
            campaign: the campaign's folder, for other campaigns of the cluster.
        """
        self.need, self.campaign = needs(run), campaign
        self.memory = 0.0 if run.use_gpu else run.workers * WORKER_MEMORY
        self._turns, self._announcements = Turns(), Announcements()
        self._known: Standing | None = None
        self._pending = Pending()
        self._ask_after = 0.0

    def standing(self) -> Standing:
        """Return the present counts, at most about a second old."""
        if self._known is None or time.monotonic() >= self._ask_after:
            began = time.monotonic()
            self._known = self._ask()
            now = time.monotonic()
            self._ask_after = now + max(LOOK_EVERY, LOOK_SHARE * (now - began))
        return self._known

    def left_to(self, started: int, since: float) -> str | None:
        """Return the campaign to which the next free place is left, None if this one may take it.

        On a cluster with other campaigns no job beyond the first is started to wait for a place: Ray would give it the
        next one whosever turn it is. A place in which no trial runs, as between two trials of resident workers, is one
        that another campaign could take: the workers soon end without a trial.

        Args:
            started: trials of this driver that have started and not ended.
            since: when their number last changed, in seconds since 1970.
        """
        standing = self.standing()
        if not standing.others:
            return None
        if started and started >= standing.slots:
            return standing.others[0].campaign
        own = self._contender(started, 0, since, waits=True)
        rooms = without_idle(standing.rooms, self.need, max(0, standing.placed - started))
        return self._turns.left_to(own, standing.others, rooms, standing.reclaimable)

    def announce(self, started: int, young: int, since: float, waits: bool) -> None:
        """Announce to other campaigns of the cluster what this one holds, and whether it waits for a place.

        Args:
            started: trials of this driver that have started and not ended.
            young: those that started less than `YOUNG_S` ago.
            since: when the number of started trials last changed, in seconds since 1970.
            waits: whether a further trial would start if it had a place.
        """
        self._announcements.announce(self._contender(started, young, since, waits or self.standing().waiting > 0))

    def withdraw(self) -> None:
        """Take back what was announced."""
        self._announcements.withdraw(_driver())

    def _contender(self, started: int, young: int, since: float, waits: bool) -> Contender:
        standing = self.standing()
        return Contender(
            campaign=self.campaign.name,
            folder=str(self.campaign.path),
            driver=_driver(),
            held=max(0, started - standing.waiting),
            starting=min(young, max(0, started - standing.waiting - standing.placed)),
            since=since,
            waits=waits,
            need=self.need,
            memory=self.memory,
        )

    def _ask(self) -> Standing:
        from ray._private.state import available_resources_per_node
        from ray.util.placement_group import placement_group_table

        others = self._announcements.others(_driver(), str(self.campaign.path))
        table = list(placement_group_table().values())
        groups = own_groups(table, _driver())
        own = held_by_node(groups)
        rivals = held_by_node(group for other in others for group in own_groups(table, other.driver))
        available, nodes = available_resources_per_node(), live_nodes()
        rooms = tuple(
            Room(total=node["Resources"], available=available.get(node["NodeID"], {}), own=own.get(node["NodeID"], {}))
            for node in nodes
        )
        reclaimable = tuple(
            Room(total=room.total, available=_sum(room.available, room.own, rivals.get(node["NodeID"], {})))
            for room, node in zip(rooms, nodes, strict=True)
        )
        placed = sum(group["state"] == "CREATED" for group in groups)
        free = sum(room.places(self.need, self.memory) for room in rooms)
        return Standing(
            placed=placed,
            waiting=len(groups) - placed,
            stuck=self._pending.stuck(groups, time.monotonic()),
            free=max(0, free - sum(other.takes_of(self.need) for other in others)),
            rooms=rooms,
            reclaimable=reclaimable,
            others=others,
        )


def _driver() -> str:
    import ray

    return str(ray.get_runtime_context().get_job_id())


def _sum(*parts: Mapping[str, float]) -> dict[str, float]:
    return {name: sum(part.get(name, 0.0) for part in parts) for part in parts for name in part}


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
