"""Wilson's interval against published values."""

import pytest

from bridge_common.intervals import wilson


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(129, 200, 0.5765, 0.7080), (125, 200, 0.5561, 0.6891), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)
def test_wilson_interval(correct: int, n: int, low: float, high: float) -> None:
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_without_trials_the_interval_is_the_whole_range() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
