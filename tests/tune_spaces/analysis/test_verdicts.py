"""Numbers as sentences and tables write them: rounding contradicts no test."""

import pytest

from tune_spaces.analysis.verdicts import p_value, points
from tune_spaces.appendix.tables import p_in_table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "+0.0"),
        (-0.0, "+0.0"),
        (-1e-17, "+0.0"),
        (0.0132, "+1.3"),
        (-0.0132, "-1.3"),
        (0.0005, "+0.1"),
        (0.0004, "+0.04"),
        (-0.00006, "-0.006"),
    ],
)
def test_a_bound_beside_zero_shows_on_which_side_it_lies(value: float, text: str) -> None:
    assert points(value) == text


@pytest.mark.parametrize(
    ("p", "text", "in_table"),
    [
        (0.04999, "0.0499", "0.0499"),
        (0.0496, "0.0496", "0.0499"),
        (0.05, "0.05", "0.050"),
        (0.0494, "0.0494", "0.049"),
        (0.2, "0.2", "0.200"),
        (0.00021, "0.00021", "< 0.001"),
    ],
)
def test_a_p_value_is_rounded_to_its_own_side_of_the_level(p: float, text: str, in_table: str) -> None:
    assert (p_value(p), p_in_table(p)) == (text, in_table)
