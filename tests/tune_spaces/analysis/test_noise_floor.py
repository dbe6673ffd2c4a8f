"""The noise floor, and the one rule on what counts as shown."""

import numpy as np
import pytest

from tune_spaces.analysis.noise_floor import is_shown, noise_floor


def test_noise_floor_of_a_pair_and_of_several() -> None:
    floor = noise_floor([[0.650, 0.625], [0.7]])
    assert floor is not None
    assert (floor.typical, floor.largest) == pytest.approx((0.025, 0.025))
    assert floor.deviation == pytest.approx(0.025 / np.sqrt(2))
    assert (floor.pairs, floor.degrees_of_freedom) == (1, 1)
    several = noise_floor([[0.60, 0.62, 0.66], [0.5, 0.51]])
    assert several is not None
    assert several.largest == pytest.approx(0.06)
    assert several.typical == pytest.approx(np.sqrt(2) * several.deviation)
    squares = [0.02**2, 0.04**2, 0.06**2, 0.01**2]  # the root mean square over pairs, weighted by degrees of freedom
    assert several.typical == pytest.approx(np.sqrt((2 * np.mean(squares[:3]) + squares[3]) / 3))
    assert (several.pairs, several.degrees_of_freedom) == (4, 3)


def test_no_replicate_means_no_noise_floor() -> None:
    assert noise_floor([[0.6], [0.7]]) is None
    assert noise_floor([]) is None


def test_more_seeds_do_not_raise_the_noise_floor() -> None:
    """The largest gap between replicates grows with their number, from 1.1 to 3.1 standard deviations at ten."""
    rng = np.random.default_rng(0)

    def mean_of(count: int, quantity: str) -> float:
        floors = [noise_floor([rng.normal(0.6, 0.01, count)]) for _ in range(2000)]
        return float(np.mean([getattr(floor, quantity) for floor in floors]))

    assert mean_of(10, "largest") > 2.5 * mean_of(2, "largest")
    for count in (2, 3, 5, 10):
        assert 0.0105 < mean_of(count, "typical") < 0.0145


def test_a_difference_is_shown_if_its_corrected_test_and_the_floor_say_so() -> None:
    assert is_shown(0.021, 0.049, 0.02)
    assert is_shown(-0.021, 0.049, 0.02)
    assert not is_shown(0.021, 0.05, 0.02)
    assert not is_shown(0.02, 0.001, 0.02)
    assert is_shown(0.001, 0.049, None)
    assert not is_shown(None, 0.001, None)
    assert not is_shown(0.1, None, None)
