"""Keys are told apart by whole words, and rows without a label are never found by their place."""

import pytest

from benchmarks.quantities import quantities


@pytest.mark.parametrize("key", ["generation_s", "iteration_ms", "duration_s", "unlimited_s", "preparation_seconds"])
def test_words_that_hold_a_word_of_what_is_left_out_are_quantities(key: str) -> None:
    assert quantities({key: 5.0}) == {key: 5.0}
    section = key.partition("_")[0]
    assert quantities({section: {"ms": 5.0}}) == {f"{section}/ms": 5.0}


@pytest.mark.parametrize(
    "key",
    [
        *("floor_ms", "floors_s", "prefill_floor_s", "limit_s", "time limit, s", "140 metrics a result, s", "ratio"),
        *("gpu_memory_gib", "memory_gib", "int8_over_full_ms", "seconds_of_turns", "step_ms_of_pairs", "error_ratio_s"),
        *("fast/source/error_ratio, s", "read: GB"),
    ],
)
def test_floors_facts_and_ratios_are_none(key: str) -> None:
    assert quantities({"seconds": {"own": 3.0, key: 5.0}}) == {"seconds/own": 3.0}


def test_rows_without_a_label_are_left_out_of_several_and_kept_alone() -> None:
    rows = [{"kind": "a", "step_ms": 1.0}, {"kind": "b", "step_ms": 20.0}]
    assert quantities({"rows": rows}) == {}
    assert quantities({"rows": rows[:1]}) == {"rows/step_ms": 1.0}
    assert quantities({"rows": [*rows, {"way": "first", "step_ms": 3.0}]}) == {"rows/first/step_ms": 3.0}


def test_values_that_are_no_finite_number_above_zero_are_no_quantities() -> None:
    values = [0, -1, float("nan"), float("inf"), None, True, "5", 10**400, [], [1.0, None]]
    assert quantities({f"part{i}_ms": value for i, value in enumerate(values)}) == {}
    assert quantities({f"part{i}_gib": [[5.0], value] for i, value in enumerate(values) if value != []}) == {}
