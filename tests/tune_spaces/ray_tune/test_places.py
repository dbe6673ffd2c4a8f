"""How many whole jobs fit, counted from what nodes have, what Ray reports as free, and what this driver holds."""

from typing import Any

import pytest

from tune_spaces.ray_tune.places import SETTLES_S, Pending, Standing, held_by_node, own_groups
from tune_spaces.ray_tune.rooms import Room, without_idle

FOUR_GPUS = {"GPU": 4.0, "CPU": 16.0}


def room(total: dict[str, float], free: dict[str, float] | None = None, **own: float) -> Room:
    return Room(total=total, available=total if free is None else free, own=own)


@pytest.mark.parametrize(
    ("free", "own", "places"),
    [
        ({"GPU": 8, "CPU": 64}, {}, 2),
        ({"GPU": 7, "CPU": 64}, {}, 1),
        ({"GPU": 3, "CPU": 64}, {}, 0),
        ({"GPU": 8, "CPU": 31}, {}, 1),  # CPUs just do not fit
        ({"GPU": 8, "CPU": 32}, {}, 2),  # and just fit
        ({"CPU": 64}, {}, 0),
        ({"GPU": 8, "CPU": 64}, {"GPU": 4.0, "CPU": 16.0}, 1),  # Ray's report lags behind an own job that has started
        ({"GPU": 4, "CPU": 48}, {"GPU": 4.0, "CPU": 16.0}, 1),  # and here it does not
    ],
)
def test_places_of_a_node(free: dict[str, float], own: dict[str, float], places: int) -> None:
    assert room({"GPU": 8, "CPU": 64}, free, **own).places(FOUR_GPUS) == places


def test_fractions_of_a_cpu_add_up() -> None:
    assert room({"CPU": 0.9}).places({"GPU": 0.0, "CPU": 0.3}) == 3


def test_without_gpus_memory_limits_all_jobs_but_the_first() -> None:
    node = {"CPU": 64.0, "memory": 10.0}
    need = {"GPU": 0.0, "CPU": 2.0}
    assert room(node).places(need, memory=3.0) == 3
    assert room(node, CPU=4.0).places(need, memory=3.0) == 1
    assert room(node).places(need, memory=11.0) == 1
    assert room(node, CPU=2.0).places(need, memory=11.0) == 0


def test_places_without_a_trial_count_as_free() -> None:
    """Those of resident workers between two trials, which another campaign could take."""
    need = {"GPU": 2.0, "CPU": 1.0}
    rooms = (
        room({"GPU": 4.0, "CPU": 8.0}, {"GPU": 0.0, "CPU": 6.0}, GPU=4.0, CPU=2.0),
        room({"GPU": 4.0, "CPU": 8.0}, {"GPU": 2.0, "CPU": 7.0}, GPU=2.0, CPU=1.0),
    )
    for idle, places in ((0, [0, 1]), (1, [1, 1]), (2, [2, 1]), (3, [2, 2]), (9, [2, 2])):
        assert [each.places(need) for each in without_idle(rooms, need, idle)] == places


def group(job: str, state: str, bundles: list[dict[str, float]], nodes: list[str]) -> dict[str, Any]:
    return {
        "placement_group_id": f"e282a7799833{job}",
        "state": state,
        "bundles": dict(enumerate(bundles)),
        "bundles_to_node_id": dict(enumerate(nodes)),
    }


def test_groups_of_other_drivers_of_actors_and_removed_ones_do_not_count() -> None:
    two = [{"GPU": 1.0, "CPU": 0.5}] * 2
    table = [
        group("01000000", "CREATED", two, ["a", "a"]),
        group("01000000", "PENDING", two, ["", ""]),
        group("01000000", "REMOVED", two, ["a", "a"]),
        group("01000000", "CREATED", [{"node:10.0.0.1": 0.001}], ["a"]),
        group("02000000", "CREATED", two, ["b", "b"]),
    ]
    own = own_groups(table, "01000000")
    assert [each["state"] for each in own] == ["CREATED", "PENDING"]
    assert held_by_node(own) == {"a": {"GPU": 2.0, "CPU": 1.0}}


def test_slots_are_the_places_held_and_those_free() -> None:
    assert Standing(placed=2, waiting=1, free=3).slots == 5


@pytest.mark.parametrize(
    ("standing", "started", "waiting"),
    [
        (Standing(placed=1, waiting=1, stuck=1, free=0), 2, 1),
        (Standing(placed=0, waiting=1, stuck=1, free=0), 1, 1),  # a job of somebody else has the room
        (Standing(placed=0, waiting=1, stuck=0, free=0), 1, 0),  # what the trial before it held is not free yet
        (Standing(placed=0, waiting=1, stuck=1, free=1), 1, 0),  # Ray has not placed it yet
        (Standing(placed=1, waiting=1, stuck=1, free=0), 1, 0),  # the group of a trial that has failed is still there
        (Standing(placed=4, waiting=0, stuck=0, free=0), 2, 0),
    ],
)
def test_a_trial_that_follows_another_does_not_wait_for_room(standing: Standing, started: int, waiting: int) -> None:
    assert standing.without_room(started) == waiting


def test_a_group_is_stuck_once_ray_has_had_time_to_place_it() -> None:
    pending, one = Pending(), [{"GPU": 1.0}]
    waits, runs = group("01000000", "PENDING", one, [""]), group("02000000", "CREATED", one, ["a"])
    assert pending.stuck([waits, runs], 100.0) == 0
    assert pending.stuck([waits, runs], 100.5 + SETTLES_S) == 1
    assert pending.stuck([{**waits, "state": "CREATED"}, runs], 107.0) == 0
    assert pending.stuck([{**waits, "state": "RESCHEDULING"}, runs], 107.5) == 0, "its node has died just now"
