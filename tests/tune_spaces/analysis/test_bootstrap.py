"""Bootstraps and the noise floor, against scipy and by simulation."""

import numpy as np
import pytest
from scipy import stats

from tune_spaces.analysis.bootstrap import Means, bootstrap_means, contrast, noise_floor


def two_runs(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    difficulty = rng.beta(1.3, 0.7, n)
    return rng.random(n) < difficulty, rng.random(n) < difficulty


def test_one_seed_each_is_the_paired_bootstrap_of_scipy() -> None:
    a, b = two_runs()
    ours = contrast(bootstrap_means([a[None], b[None]], draws=20_000), [1, -1])
    theirs = stats.bootstrap(
        (a.astype(float), b.astype(float)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.estimate == pytest.approx(a.mean() - b.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_draws_of_contrasts_are_consistent() -> None:
    rng = np.random.default_rng(5)
    cells = [rng.random((seeds, 100)) < 0.6 for seeds in (3, 1, 2)]
    means = bootstrap_means(cells, draws=500)
    first, second, whole = (contrast(means, w) for w in ([1, -1, 0], [0, 1, -1], [1, 0, -1]))
    assert first.estimate + second.estimate == pytest.approx(whole.estimate)
    assert means.draws.shape == (500, 3)


def test_draws_of_a_cell_do_not_depend_on_other_cells_nor_on_their_order() -> None:
    rng = np.random.default_rng(6)
    cells = [rng.random((seeds, 101)) < np.linspace(0.4, 0.8, seeds)[:, None] for seeds in (3, 1, 7, 2)]
    means = bootstrap_means(cells, draws=1_200)
    reversed_means = bootstrap_means(cells[::-1], draws=1_200)
    assert np.array_equal(reversed_means.draws[:, ::-1], means.draws)
    for index, cell in enumerate(cells):
        assert np.array_equal(bootstrap_means([cell], draws=1_200).draws[:, 0], means.draws[:, index])
    pair = contrast(bootstrap_means([cells[2], cells[0]], draws=1_200), [1, -1])
    assert contrast(means, [-1, 0, 1, 0]) == pair
    assert contrast(bootstrap_means(cells, draws=1_200, seed=1), [-1, 0, 1, 0]) != pair


def test_seeds_of_different_cells_are_drawn_independently() -> None:
    """Otherwise the seeds of two configurations would seem correlated, and their difference certain."""
    rng = np.random.default_rng(8)
    shifts = np.linspace(-0.2, 0.2, 5)[:, None]
    first, second = (rng.random((5, 400)) < 0.5 + shifts for _ in range(2))
    for cells in ([first, second], [first, first]):
        means = bootstrap_means(cells, draws=8_000)
        gap = means.draws[:, 0] - means.draws[:, 1]
        assert float(np.var(gap)) > 0.8 * float(np.sum(means.seed_variance))


def test_refuses_cells_on_different_items() -> None:
    with pytest.raises(ValueError, match="same items"):
        bootstrap_means([np.ones((1, 4)), np.ones((1, 5))])


def coverage(seeds: int, spread: float, repeats: int = 300, items: int = 300) -> float:
    """Return how often the hierarchical interval covers 0 if nothing differs but seeds, with deviation `spread`."""
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(repeats):
        difficulty = rng.beta(1.3, 0.7, items)
        cells = []
        for _ in range(2):
            shift = rng.normal(0, spread, (seeds, 1))
            cells.append(rng.random((seeds, items)) < np.clip(difficulty + shift, 0, 1))
        effect = contrast(bootstrap_means(cells, draws=600), [1, -1])
        hits += effect.low <= 0 <= effect.high
    return hits / repeats


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.05), (5, 0.05)])
def test_coverage_over_seeds(seeds: int, spread: float) -> None:
    assert 0.91 <= coverage(seeds, spread) <= 0.99


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.beta(1.3, 0.7, 500)

    def width(shifts: list[float]) -> float:
        cells = [rng.random((3, 500)) < np.clip(difficulty + np.array(shifts)[:, None], 0, 1) for _ in range(2)]
        effect = contrast(bootstrap_means(cells), [1, -1])
        return effect.high - effect.low

    assert width([-0.1, 0.0, 0.1]) > 2 * width([0.0, 0.0, 0.0])


def test_p_value_is_small_only_where_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random((3, 400)) < 0.7, rng.random((3, 400)) < 0.5
    assert contrast(bootstrap_means([a, b]), [1, -1]).p < 0.01
    same = contrast(bootstrap_means([a, a]), [1, -1])
    assert same.p == 1.0
    assert same.estimate == 0.0


def test_noise_floor_of_a_pair_and_of_several() -> None:
    floor = noise_floor([[0.650, 0.625], [0.7]])
    assert floor is not None
    assert floor.largest == pytest.approx(0.025)
    assert floor.deviation == pytest.approx(0.025 / np.sqrt(2))
    assert (floor.pairs, floor.degrees_of_freedom) == (1, 1)
    several = noise_floor([[0.60, 0.62, 0.66], [0.5, 0.51]])
    assert several is not None
    assert several.largest == pytest.approx(0.06)
    assert (several.pairs, several.degrees_of_freedom) == (4, 3)


def test_no_replicate_means_no_noise_floor() -> None:
    assert noise_floor([[0.6], [0.7]]) is None
    assert noise_floor([]) is None


def test_draws_have_the_variance_of_seeds_and_of_items() -> None:
    rng = np.random.default_rng(7)
    seeds, items, spread = 40, 400, 0.1
    scores = rng.random((seeds, items)) < np.clip(0.6 + rng.normal(0, spread, (seeds, 1)), 0, 1)
    means = bootstrap_means([scores], draws=8_000)
    by_item = float(np.var(scores.mean(axis=0))) / items
    assert means.seed_variance[0] == pytest.approx(spread**2 / seeds, rel=0.5)
    assert float(np.var(means.draws)) == pytest.approx(means.seed_variance[0] + by_item, rel=0.06)


def test_many_seeds_with_the_same_answers_have_a_finite_interval() -> None:
    """Means of equal rows differ by rounding alone, which is no variance of seeds."""
    row = np.arange(1319) % 3 == 0
    equal = np.tile(row.astype(float), (200, 1))
    gap = contrast(bootstrap_means([equal, 1 - equal], draws=500), [1.0, -1.0])
    assert np.isfinite([gap.estimate, gap.low, gap.high]).all()
    assert gap.low < gap.estimate < gap.high


def test_the_variance_of_seeds_by_hand() -> None:
    """Two-way ANOVA: 7/48 between seeds, residual 5/6 on 6 degrees, a quarter of that for a mean of 4 items: 1/9."""
    scores = [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    means = bootstrap_means([scores, [[1, 0, 1, 0]]], draws=10)
    assert means.seed_variance == pytest.approx([1 / 9 / 3, 0.0])
    assert means.seed_freedom.tolist() == [2.0, 0.0]
    assert means.estimates == pytest.approx([4 / 12, 0.5])


def test_noise_of_items_alone_is_no_variance_of_seeds() -> None:
    """Over many cells of three seeds the estimate is a small share of the variance that items cause."""
    rng = np.random.default_rng(9)
    cells = [rng.random((3, 200)) < 0.5 for _ in range(200)]
    means = bootstrap_means(cells, draws=1)
    of_items = 0.25 / 200
    assert float(np.mean(3 * means.seed_variance)) < 0.5 * of_items
    shifted = [rng.random((3, 200)) < 0.5 + np.array([[-0.1], [0.0], [0.1]]) for _ in range(200)]
    means = bootstrap_means(shifted, draws=1)
    assert float(np.mean(3 * means.seed_variance)) == pytest.approx(0.01, rel=0.1)


def summary_of(draws: list[float], seed_variance: list[float], freedom: list[float]) -> Means:
    """Return two cells with the mean 0.6 and 0.5, and draws of the first alone."""
    columns = np.array([[0.6 + draw, 0.5] for draw in draws])
    return Means(
        estimates=np.array([0.6, 0.5]),
        draws=columns,
        seed_variance=np.array(seed_variance),
        seed_freedom=np.array(freedom),
    )


def test_the_freedom_of_a_difference_counts_the_seeds_of_both_cells() -> None:
    """Satterthwaite by hand: 0.02 squared over the sum of 0.004 squared by 2 and 0.006 squared by 3."""
    spread = float(np.sqrt(0.02))
    draws = [spread, -spread] * 500
    effect = contrast(summary_of(draws, [0.004, 0.006], [2.0, 3.0]), [1, -1])
    freedom = 0.02**2 / (0.004**2 / 2 + 0.006**2 / 3)
    widened = spread * stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    assert (effect.low, effect.high) == pytest.approx((0.1 - widened, 0.1 + widened))
    half = contrast(summary_of(draws, [0.004, 0.0], [2.0, 0.0]), [0.5, -0.5])
    variance, share = 0.02 / 4, 0.004 / 4
    widened = spread / 2 * stats.t.ppf(0.975, variance**2 / (share**2 / 2)) / stats.norm.ppf(0.975)
    assert (half.low, half.high) == pytest.approx((0.05 - widened, 0.05 + widened))


def test_a_contrast_has_at_least_one_degree_of_freedom() -> None:
    spread = 0.01
    effect = contrast(summary_of([spread, -spread] * 500, [1.0, 1.0], [1.0, 1.0]), [1, -1])
    widened = spread * stats.t.ppf(0.975, 1.0) / stats.norm.ppf(0.975)
    assert effect.high == pytest.approx(0.1 + widened)


def test_a_level_is_that_of_quantiles_and_of_students_t() -> None:
    draws = [float(x) for x in np.linspace(-0.1, 0.1, 201)]
    effect = contrast(summary_of(draws, [0.0, 0.0], [0.0, 0.0]), [1, -1], level=0.8)
    assert (effect.low, effect.high) == pytest.approx((0.1 - 0.08, 0.1 + 0.08))
    spread = 0.01
    effect = contrast(summary_of([spread, -spread] * 500, [1.0, 1.0], [1.0, 1.0]), [1, -1], level=0.8)
    assert effect.high == pytest.approx(0.1 + spread * stats.t.ppf(0.9, 1.0) / stats.norm.ppf(0.9))


def test_a_p_value_counts_the_data_among_the_draws() -> None:
    """No draw on the other side of 0 among 999 says p = 0.002 and never 0 (Davison & Hinkley 1997, section 4.2)."""
    none = contrast(summary_of([0.01] * 999, [0.0, 0.0], [0.0, 0.0]), [1, -1])
    assert none.p == pytest.approx(2 / 1000)
    three = contrast(summary_of([-0.2] * 3 + [0.01] * 996, [0.0, 0.0], [0.0, 0.0]), [1, -1])
    assert three.p == pytest.approx(8 / 1000)
    negative = contrast(summary_of([-0.2] * 996 + [0.01] * 3, [0.0, 0.0], [0.0, 0.0]), [1, -1])
    assert negative.p == pytest.approx(8 / 1000)
    zero = contrast(summary_of([-0.1] * 999, [0.0, 0.0], [0.0, 0.0]), [1, -1])
    assert zero.p == 1.0
