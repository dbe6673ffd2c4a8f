"""Conditions and reasons beside a value; docs/scored_examples.md has the verdicts."""

import pytest

from ray_bridge.tasks.latex.conditions import is_condition, is_reason, is_solved_by


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("It is 5 when x = 2", "x = 2", True),
        ("It is 5 at x = 2", "x = 2", True),
        ("It is 5 at 2", "2", False),
        ("It is 5, since 6 is too large", "6", True),
        ("It is 3 since 1 + 2 = 3, so y = 7", "y = 7", False),
        ("It is x = 2", "x = 2", False),
        ("It is 5. At x = 2", "x = 2", False),
    ],
)
def test_what_only_says_where_or_why_is_a_condition(text: str, value: str, expected: bool) -> None:
    assert is_condition(text, text.rindex(value), value) is expected


def test_a_reason_stands_after_its_word() -> None:
    assert is_reason("since we know that $x > 0$, 5", len("since we know that $"))
    assert not is_reason("it holds for x = 4, 5", len("it holds for "))


def test_an_equation_is_solved_by_one_that_gives_a_name() -> None:
    assert is_solved_by("2x = 34", "x = 17")
    assert not is_solved_by("x = 34", "x = 17")
    assert not is_solved_by("2x", "x = 17")
    assert not is_solved_by("2x = 34", "17")
