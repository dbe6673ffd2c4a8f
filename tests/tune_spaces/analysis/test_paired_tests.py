"""The paired tests and intervals, against published figures, other implementations and simulation."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import multinomial
from statsmodels.stats.contingency_tables import mcnemar

from tune_spaces.analysis.paired_tests import (
    adjust,
    discordant,
    mcnemar_exact,
    mcnemar_power,
    minimum_detectable_effect,
    paired_interval,
    score_interval,
)

N, P, DRAWS = 200, 0.65, 5_000


def pair_of_runs(rng: np.random.Generator, discordance: float, difference: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw n10 and n01 of many pairs of correlated runs with accuracies P and P - difference."""
    cells = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    counts = rng.multinomial(N, cells, size=DRAWS)
    return counts[:, 0], counts[:, 1]


def test_the_reference_pair() -> None:
    assert mcnemar_exact(14, 10) == pytest.approx(0.541, abs=5e-4)
    low, high = paired_interval(14, 10, 200)
    assert low < 0.02 < high


def test_exact_mcnemar_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n10, n01 in [(0, 0), (0, 6), (1, 1), *rng.integers(0, 60, (50, 2))]:
        table = [[5, int(n10)], [int(n01), 7]]
        assert mcnemar_exact(n10, n01) == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
    assert mcnemar_exact(0, 0) == 1.0


def test_discordant_counts_and_refuses_unequal_lengths() -> None:
    assert discordant([True, True, False, False], [True, False, True, False]) == (1, 1)
    assert discordant([1, 1, 1], [0, 0, 1]) == (2, 0)
    with pytest.raises(ValueError, match="same items"):
        discordant([True], [True, False])


def score_by_maximisation(n10: int, n01: int, n: int, delta: float) -> float:
    """Return the score statistic with the nuisance parameter from a numerical search of the constrained likelihood."""

    def minus_log_likelihood(p01: float) -> float:
        p10, rest = p01 + delta, 1 - 2 * p01 - delta
        parts = [(n10, p10), (n01, p01), (n - n10 - n01, rest)]
        return -sum(count * math.log(max(prob, 1e-300)) for count, prob in parts if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    p01 = minimize_scalar(minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (n10 - n01 - n * delta) / math.sqrt(n * (2 * p01 + delta * (1 - delta)))


@pytest.mark.parametrize(("n10", "n01", "n"), [(14, 10, 200), (1, 7, 21), (40, 20, 160), (0, 3, 50), (6, 16, 161)])
def test_ends_of_the_interval_are_where_the_score_reaches_the_normal_quantile(n10: int, n01: int, n: int) -> None:
    low, high = (float(end) for end in score_interval(np.array(n10), np.array(n01), n))
    assert score_by_maximisation(n10, n01, n, low) == pytest.approx(1.959964, abs=2e-3)
    assert score_by_maximisation(n10, n01, n, high) == pytest.approx(-1.959964, abs=2e-3)


def test_published_interval() -> None:
    # Airway hyper-responsiveness before and after transplantation, 1 against 7 of 21: Fagerland et al. 2014.
    assert score_interval(np.array(1), np.array(7), 21) == pytest.approx((-0.517, -0.026), abs=1e-3)


def test_zero_is_outside_the_interval_if_and_only_if_the_exact_test_rejects() -> None:
    for n in (10, 50, 500, 1319):
        n10, n01 = (table.ravel() for table in np.meshgrid(np.arange(min(n, 250)), np.arange(min(n, 250))))
        possible = n10 + n01 <= n
        n10, n01 = n10[possible], n01[possible]
        p = mcnemar_exact(n10, n01)
        for level in (0.95, 0.9):
            low, high = paired_interval(n10, n01, n, level)
            assert np.array_equal((low > 0) | (high < 0), p < 1 - level)
            estimate = (n10 - n01) / n
            assert np.all((low <= estimate) & (estimate <= high))
            plain_low, plain_high = score_interval(n10, n01, n, level)
            assert np.all((low <= plain_low + 1e-9) & (plain_high <= high + 1e-9))
            assert np.all(plain_low - low < 1.5 / n + 0.02)


def test_interval_of_extreme_tables() -> None:
    low, high = paired_interval(0, 0, 100)
    assert low == pytest.approx(-high)
    assert 0 < high < 0.05
    assert paired_interval(10, 0, 10)[1] == pytest.approx(1.0, abs=1e-6)
    assert paired_interval(0, 0, 0) == (-1.0, 1.0)
    n10, n01 = np.array([14, 0]), np.array([10, 0])
    lows, highs = paired_interval(n10, n01, 200)
    assert lows[0] == pytest.approx(paired_interval(14, 10, 200)[0])
    assert highs.shape == (2,)


@pytest.mark.parametrize("discordance", [0.08, 0.12, 0.20, 0.35])
@pytest.mark.parametrize("difference", [0.0, 0.05])
def test_coverage_of_the_paired_interval(discordance: float, difference: float) -> None:
    n10, n01 = pair_of_runs(np.random.default_rng(1), discordance, difference)
    low, high = paired_interval(n10, n01, N)
    covered = float(np.mean((low <= difference) & (difference <= high)))
    assert 0.945 <= covered <= 0.975  # the exact test's level is below 5 %, and so is the interval's error
    low, high = score_interval(n10, n01, N)
    assert float(np.mean((low <= difference) & (difference <= high))) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("discordance", [0.05, 0.12, 0.35])
def test_size_of_mcnemar(discordance: float) -> None:
    n10, n01 = pair_of_runs(np.random.default_rng(2), discordance, 0.0)
    assert float(np.mean(mcnemar_exact(n10, n01) < 0.05)) <= 0.05


def test_power_agrees_with_simulation() -> None:
    n10, n01 = pair_of_runs(np.random.default_rng(3), 0.12, 0.07)
    simulated = float(np.mean(mcnemar_exact(n10, n01) < 0.05))
    assert mcnemar_power(N, 0.12, 0.07) == pytest.approx(simulated, abs=0.02)
    assert mcnemar_power(N, 0.12, 0.0) <= 0.05


@pytest.mark.parametrize(("n", "discordance", "difference"), [(1, 0.5, 0.5), (30, 0.4, 0.2), (60, 1.0, 0.3)])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_power_is_the_sum_over_all_tables_that_reject(
    n: int, discordance: float, difference: float, alpha: float
) -> None:
    p10, p01 = (discordance + difference) / 2, (discordance - difference) / 2
    power = 0.0
    for n10 in range(n + 1):
        for n01 in range(n + 1 - n10):
            if mcnemar_exact(n10, n01) < alpha:
                power += float(multinomial.pmf([n10, n01, n - n10 - n01], n, [p10, p01, 1 - discordance]))
    assert mcnemar_power(n, discordance, difference, alpha) == pytest.approx(power, abs=1e-8)


def test_minimum_detectable_effect() -> None:
    effect = minimum_detectable_effect(200, 0.12)
    assert effect is not None
    assert 0.065 < effect < 0.085
    assert mcnemar_power(200, 0.12, effect) == pytest.approx(0.8, abs=1e-3)
    bigger_n = minimum_detectable_effect(1_319, 0.12)
    stricter = minimum_detectable_effect(200, 0.12, alpha=0.05 / 6)
    assert bigger_n is not None
    assert stricter is not None
    assert bigger_n < 0.03 < effect < stricter


def test_minimum_detectable_effect_where_nothing_was_discordant() -> None:
    # All discordance must then be the effect itself: about eight items of 200, enough to see six with 80 % power.
    effect = minimum_detectable_effect(200, 0.0)
    assert effect is not None
    assert 6 / 200 < effect < 10 / 200
    assert minimum_detectable_effect(5, 0.5) is None


def test_adjust() -> None:
    p = [0.01, None, 0.04, 0.03]
    assert adjust(p, "holm") == pytest.approx([0.03, None, 0.06, 0.06])
    assert adjust(p, "fdr_bh") == pytest.approx([0.03, None, 0.04, 0.04])
    assert adjust([], "holm") == []
    assert adjust([None], "fdr_bh") == [None]
    assert adjust([0.2], "holm") == [0.2]
    with pytest.raises(ValueError, match="holm"):
        adjust([0.1], "guess")  # type: ignore[arg-type]


def test_a_difference_needs_a_discordance_that_can_hold_it() -> None:
    for discordance, difference in ((0.1, 0.2), (0.1, -0.2), (1.1, 0.2)):
        with pytest.raises(ValueError, match=f"needs a discordance between {abs(difference)} and 1"):
            mcnemar_power(100, discordance, difference)
    assert mcnemar_power(100, 0.0, 0.0) == 0.0, "nothing differs and nothing is rejected"
    assert mcnemar_power(100, 1.0, 1.0) == pytest.approx(1)
    assert mcnemar_power(100, 0.2, -0.2) == pytest.approx(mcnemar_power(100, 0.2, 0.2))


@pytest.mark.parametrize("method", ["holm", "fdr_bh"])
def test_corrections_agree_with_statsmodels(method: str) -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(5)
    for size in (1, 2, 3, 30):
        known = np.round(rng.random(size) ** 3, 2).tolist()  # with ties
        assert adjust(known, method) == pytest.approx(multipletests(known, method=method)[1].tolist())  # type: ignore[arg-type]
