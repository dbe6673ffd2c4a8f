"""To which campaign of a cluster the next free place goes."""

import heapq
import json
from dataclasses import replace

import pytest

from tune_spaces.ray_tune.rooms import Room
from tune_spaces.ray_tune.turns import SILENT_S, TAKES_WITHIN_S, Announcements, Contender, Turns, due_before

ONE_GPU, WHOLE_NODE = {"GPU": 1.0, "CPU": 2.0}, {"GPU": 4.0, "CPU": 8.0}


def contender(name: str, held: int, since: float = 0.0, *, waits: bool = True, need: dict[str, float] = ONE_GPU):
    return Contender(
        campaign=name, folder=f"runs/{name}", driver=f"job of {name}", held=held, since=since, waits=waits, need=need
    )


def rooms(*free: float) -> list[Room]:
    """Return nodes of four GPUs with so many free."""
    return [Room(total={"GPU": 4.0, "CPU": 64.0}, available={"GPU": gpus, "CPU": 64.0}) for gpus in free]


def due(own: Contender, *others: Contender, free: tuple[float, ...] = (1.0, 0.0)) -> list[str]:
    nodes = rooms(*free)
    return [other.campaign for other in due_before(own, others, nodes, rooms(*[4.0] * len(free)))]


def test_the_smallest_share_goes_first() -> None:
    assert due(contender("a", 7), contender("b", 0)) == ["b"]
    assert due(contender("a", 7), contender("b", 1), contender("c", 0)) == ["c", "b"]
    assert due(contender("a", 3), contender("b", 4)) == []


def test_of_equal_shares_the_one_that_waited_longer_goes_first() -> None:
    assert due(contender("a", 2, since=20.0), contender("b", 2, since=10.0)) == ["b"]
    assert due(contender("b", 2, since=10.0), contender("a", 2, since=20.0)) == []


def test_one_of_two_campaigns_always_goes_first() -> None:
    pair = contender("a", 2), contender("b", 2)
    assert sorted([due(*pair), due(*reversed(pair))]) == [[], ["a"]]


def test_who_does_not_wait_is_not_waited_for() -> None:
    assert due(contender("a", 7), contender("b", 0, waits=False)) == []


def test_shares_count_resources_and_not_jobs() -> None:
    large = contender("large", 1, need=WHOLE_NODE)
    assert due(contender("small", 3), large, free=(4.0, 1.0)) == []
    assert due(contender("small", 5), large, free=(4.0, 0.0)) == ["large"]
    on_cpus = contender("cpus", 1, need={"GPU": 0.0, "CPU": 2.0})  # 2 of 128 CPUs, and no GPU
    assert due(contender("small", 1), on_cpus) == ["cpus"]


def test_a_large_job_is_waited_for_only_if_its_campaign_holds_nothing_and_it_can_fit() -> None:
    large = contender("large", 0, need=WHOLE_NODE)
    assert due(contender("small", 4), large, free=(2.0, 2.0)) == ["large"]
    assert due(contender("small", 6), replace(large, held=1), free=(2.0, 0.0)) == []
    never = due_before(contender("small", 4), [large], rooms(2.0, 2.0), rooms(3.0, 3.0))  # others hold a GPU of each
    assert never == []


def test_a_campaign_that_does_not_take_its_place_is_passed_over_until_it_holds_something_else() -> None:
    turns, own, other = Turns(), contender("a", 7), contender("b", 1)

    def left_to(now: float, other: Contender = other, free: float = 1.0) -> str | None:
        return turns.left_to(own, [other], rooms(free), rooms(4.0), now=now)

    assert left_to(0.0) == "b"
    assert left_to(TAKES_WITHIN_S - 1) == "b"
    assert left_to(TAKES_WITHIN_S) is None
    assert left_to(TAKES_WITHIN_S + 1, replace(other, held=2)) == "b"
    large = replace(other, held=0, need=WHOLE_NODE)
    for now in (100.0, 1000.0):
        assert left_to(now, large) == "b", "it cannot take its place yet"
    assert left_to(2000.0, large, free=4.0) == "b", "the seconds count from when it fits"
    assert left_to(2000.0 + TAKES_WITHIN_S, large, free=4.0) is None


def test_starting_jobs_of_others_are_about_to_take_places() -> None:
    assert replace(contender("b", 2), starting=2).takes_of(ONE_GPU) == 2
    assert replace(contender("b", 1, need=WHOLE_NODE), starting=1).takes_of(ONE_GPU) == 4
    assert replace(contender("b", 3), starting=3).takes_of(WHOLE_NODE) == 1


def test_announcements_that_no_longer_change_are_those_of_dead_drivers() -> None:
    announcements, one = Announcements(), contender("b", 1)

    def text(beat: int) -> dict[bytes, bytes]:
        return {b"02": json.dumps({**one.__dict__, "beat": beat, "pid": 1}).encode()}

    assert announcements.living(text(1), 0.0) == (one,)
    assert announcements.living(text(1), SILENT_S - 1) == (one,)
    assert announcements.living(text(1), SILENT_S) == ()
    assert announcements.living(text(2), SILENT_S + 1) == (one,)


def test_an_announcement_of_another_version_that_lacks_a_field_is_left_out() -> None:
    record = {name: value for name, value in contender("b", 1).__dict__.items() if name != "since"}
    assert Announcements().living({b"02": json.dumps(record).encode()}, 0.0) == ()


@pytest.mark.parametrize("places", [1, 2, 3, 8])
@pytest.mark.parametrize("seconds", [(10, 10, 10), (60, 10, 30)])
def test_places_are_shared_for_any_lengths_of_jobs_and_nobody_starves(places: int, seconds: tuple[int, ...]) -> None:
    """A simulated cluster: the first has all places when two others come, and asks first whenever a job ends."""
    names, node = "abc", [Room(total={"GPU": float(places), "CPU": 64.0}, available={"GPU": 1.0, "CPU": 64.0})]
    running: list[tuple[float, str]] = [(float(n) % 10 + 1, "a") for n in range(places)]
    since, worked, longest = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    heapq.heapify(running)
    while (now := running[0][0]) < 10_000:
        ended = heapq.heappop(running)[1]
        since[ended] = now
        held = {name: sum(other == name for _, other in running) for name in names}
        every = {name: contender(name, held[name], since[name]) for name in names}
        takes = [
            name
            for name in names
            if not due_before(every[name], [every[other] for other in names if other != name], node, node)
        ]
        assert len(takes) == 1, "all agree on which one goes first"
        (name,) = takes
        longest[name] = max(longest[name], now - since[name])
        since[name] = now
        took = seconds[names.index(name)]
        worked[name] += took
        heapq.heappush(running, (now + took, name))
    assert max(longest.values()) <= 3 * max(seconds)
    if places % 3 == 0 or places > 3:
        shares = [worked[name] / sum(worked.values()) for name in names]
        assert shares == pytest.approx([1 / 3] * 3, abs=0.05)
