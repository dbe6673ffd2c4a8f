"""The time between two trials is counted from the end of the one before in the same place."""

from benchmarks.paper_campaign import between


def trial(begins: float, first_step: float | None, ends: float | None) -> dict[str, float]:
    moments = {"begins": begins, "first_step": first_step, "ends": ends}
    return {name: moment for name, moment in moments.items() if moment is not None}


def test_each_trial_follows_the_one_in_its_own_place() -> None:
    rows = [
        trial(0, 50, 100),
        trial(0, 51, 103),
        trial(104, 110, 200),  # after 100, though the other place was free at 103
        trial(105, 111, None),  # after 103
        trial(201, None, None),  # has not stepped
    ]
    assert between(rows) == [10, 8]
    assert between(rows[::-1]) == [10, 8]


def test_a_place_is_taken_once() -> None:
    rows = [trial(0, 5, 100), trial(101, 110, 150), trial(120, 130, None)]  # the third opens a place of its own
    assert between(rows) == [10]


def test_one_place() -> None:
    assert between([trial(0, 68, 122), trial(122, 176, 222), trial(223, 280, 300)]) == [54, 58]
    assert between([trial(0, 68, None)]) == []
