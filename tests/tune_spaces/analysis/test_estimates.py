"""Contrasts and accuracies of cells: by hand, against scipy, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from bridge_common.intervals import score_interval_of, wilson
from tune_spaces.analysis.estimates import Cells, Estimate


def difference(a: np.ndarray, b: np.ndarray, clusters: np.ndarray | None = None) -> Estimate:
    return Cells.of({"a": a, "b": b}, clusters).contrast({"a": 1.0, "b": -1.0})


def answers(rng: np.random.Generator, seeds: int, difficulty: np.ndarray, spread: float = 0.0) -> np.ndarray:
    """Draw the answers of one configuration, (seeds, items), whose seeds differ by `spread` in accuracy."""
    shift = rng.normal(0, spread, (seeds, 1))
    return rng.random((seeds, len(difficulty))) < np.clip(difficulty + shift, 0, 1)


def test_one_seed_each_is_the_paired_t_test_with_two_more_items() -> None:
    rng = np.random.default_rng(0)
    a, b = answers(rng, 1, rng.beta(1.3, 0.7, 200)), answers(rng, 1, rng.beta(1.3, 0.7, 200))
    ours = difference(a, b)
    made_up = np.concatenate([a[0].astype(float) - b[0], [1.0, -1.0]])
    theirs = stats.ttest_1samp(made_up, 0.0)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.estimate == pytest.approx(a.mean() - b.mean())
    assert not ours.with_seeds


def test_clusters_of_one_size_are_the_t_test_over_their_means_with_two_more_items() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), 25)
    a, b = answers(rng, 1, rng.beta(1.3, 0.7, 300)), answers(rng, 1, rng.beta(1.3, 0.7, 300))
    ours = difference(a, b, clusters)
    means = (a[0].astype(float) - b[0]).reshape(12, 25).mean(axis=1)
    assert ours.freedom == pytest.approx(11)
    assert ours.error**2 == pytest.approx((means.var(ddof=1) / 12 * 300**2 + 2) / 302**2)
    centre = means.mean() * 300 / 302
    assert ours.p == pytest.approx(2 * stats.t.sf(abs(centre) / ours.error, 11))


def test_every_item_its_own_cluster_is_no_clusters() -> None:
    rng = np.random.default_rng(2)
    a, b = answers(rng, 3, np.full(60, 0.6)), answers(rng, 3, np.full(60, 0.5))
    assert difference(a, b, np.arange(60)) == difference(a, b)
    assert Cells.of({"a": a}, np.arange(60)).independent
    assert not Cells.of({"a": a}, np.arange(60) // 2).independent


def test_items_of_one_cluster_count_once() -> None:
    """Ten copies of each item tell nothing new: the error is that of the items alone."""
    rng = np.random.default_rng(3)
    a, b = answers(rng, 1, np.full(100, 0.7)), answers(rng, 1, np.full(100, 0.5))
    copied = difference(np.repeat(a, 10, 1), np.repeat(b, 10, 1), np.repeat(np.arange(100), 10))
    assert copied.error == pytest.approx(difference(a, b).error, rel=0.03)
    assert difference(np.repeat(a, 10, 1), np.repeat(b, 10, 1)).error < 0.4 * copied.error


def test_the_variance_of_seeds_by_hand() -> None:
    """Two-way ANOVA: 7/48 between seeds, residual 5/36 on 6 degrees, a quarter of that for a mean of 4 items."""
    scores = [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    cells = Cells.of({"a": scores})
    assert cells.seed_square == pytest.approx([7 / 48])
    assert cells.answer_noise == pytest.approx([5 / 36 / 4])
    assert cells.seed_freedom.tolist() == [2.0]


def test_noise_of_items_alone_is_no_variance_of_seeds() -> None:
    """Over many cells of three seeds, single answers explain all that seeds differ by, unless seeds are shifted."""
    rng = np.random.default_rng(9)

    def excess(shifts: list[float]) -> float:
        matrices = {str(i): rng.random((3, 200)) < 0.5 + np.array(shifts)[:, None] for i in range(200)}
        cells = Cells.of(matrices)
        return float(np.mean(cells.seed_square - cells.answer_noise))

    assert abs(excess([0.0, 0.0, 0.0])) < 0.2 * 0.25 / 200
    assert excess([-0.1, 0.0, 0.1]) == pytest.approx(0.01, rel=0.1)


def test_error_and_freedom_of_a_difference_by_hand() -> None:
    """Reciprocal degrees add up by the parts' shares to the power of 1.2; those of seeds by Welch's rule."""
    rng = np.random.default_rng(10)
    difficulty = rng.beta(1.3, 0.7, 500)
    a, b = answers(rng, 3, difficulty, 0.05), answers(rng, 4, difficulty, 0.02)
    cells = Cells.of({"a": a, "b": b})
    by_item = np.concatenate([a.mean(axis=0) - b.mean(axis=0), [1.0, -1.0]])
    items = by_item.var(ddof=1) / 502
    shares = cells.seed_square / [3, 4]
    variance = items + float(np.sum((cells.seed_square - cells.answer_noise) / [3, 4]))
    of_seeds = shares.sum() ** 2 / (shares[0] ** 2 / 3 + shares[1] ** 2 / 4) - 1
    assert 2 < of_seeds < 5
    share = shares.sum() / variance
    freedom = 1 / ((1 - share) ** 1.2 / 501 + share**1.2 / of_seeds)
    found = cells.contrast({"a": 1.0, "b": -1.0})
    assert (found.error, found.freedom) == pytest.approx((np.sqrt(variance), freedom))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(by_item.mean()) / np.sqrt(variance), freedom))


def test_a_cells_seeds_count_by_the_square_of_its_weight() -> None:
    """At a weight of one half a quarter of their variance, in the error as in its degrees of freedom."""
    rng = np.random.default_rng(15)
    difficulty, weights, squares = rng.beta(1.3, 0.7, 500), np.array([0.5, 0.5, -1.0]), np.array([0.25, 0.25, 1.0])
    cells = Cells.of(
        {name: answers(rng, 3, difficulty, spread) for name, spread in zip("abc", (0.04, 0.01, 0.03), strict=True)}
    )
    by_item = np.concatenate([cells.by_item @ weights, [1.0, -1.0]])
    excess = float(squares @ (cells.seed_square - cells.answer_noise)) / 3
    variance = by_item.var(ddof=1) / 502 + excess
    shares = squares * cells.seed_square / 3
    of_seeds = 3 * shares.sum() ** 2 / float(np.sum(shares**2)) - 1
    assert 2 < of_seeds < 6
    share = shares.sum() / variance
    assert share < 1
    freedom = 1 / ((1 - share) ** 1.2 / 501 + share**1.2 / of_seeds)
    found = cells.contrast(dict(zip("abc", weights, strict=True)))
    assert (found.error, found.freedom) == pytest.approx((np.sqrt(variance), freedom))


def test_a_cell_with_one_seed_has_the_pooled_variance_of_the_others() -> None:
    rng = np.random.default_rng(4)
    difficulty = rng.beta(1.3, 0.7, 1319)
    a, b = answers(rng, 4, difficulty, 0.05), answers(rng, 3, difficulty, 0.05)
    alone = answers(rng, 1, difficulty)
    cells = Cells.of({"a": a, "b": b, "c": alone})
    assert cells.seed_square[2] == pytest.approx((3 * cells.seed_square[0] + 2 * cells.seed_square[1]) / 5)
    assert cells.seed_freedom.tolist() == [3, 2, 5]
    found = cells.contrast({"a": 1.0, "c": -1.0})
    assert found.with_seeds
    assert found.error > 2 * difference(a[:1], alone).error


@pytest.mark.parametrize("clusters", [None, np.arange(600) // 6])
def test_single_runs_are_compared_as_trained_whatever_replicates_others_have(
    clusters: np.ndarray | None,
) -> None:
    """One replicate elsewhere would leave their interval a single degree of freedom."""
    rng = np.random.default_rng(5)
    difficulty = rng.beta(1.3, 0.7, 600)
    a, b, c = answers(rng, 1, difficulty + 0.1), answers(rng, 1, difficulty), answers(rng, 2, difficulty, 0.1)
    beside = Cells.of({"a": a, "b": b, "c": c}, clusters)
    assert beside.contrast({"a": 1.0, "b": -1.0}) == difference(a, b, clusters)
    assert not beside.contrast({"a": 1.0, "b": -1.0}).with_seeds
    assert beside.contrast({"a": 1.0, "c": -1.0}).with_seeds


@pytest.mark.parametrize("weights", [(1, -1, 0, 0), (1, -1, -1, 1), (0.5, 0.5, -0.5, -0.5)])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_zero_is_outside_the_interval_if_and_only_if_p_is_small(seeds: int, weights: tuple[float, ...]) -> None:
    rng = np.random.default_rng(seeds)
    names = "abcd"
    shown = 0
    for trial in range(300):
        items = int(rng.integers(5, 400))
        shift = rng.choice([0.0, 0.02, 0.1, 0.4])
        base = rng.random(items) < rng.choice([0.5, 0.9, 1.0])
        flips = [rng.random((seeds, items)) < rng.choice([0.0, 0.01, shift]) for _ in names]
        cells = {name: base ^ flip for name, flip in zip(names, flips, strict=True)}
        clusters = rng.integers(0, max(2, items // 3), items) if trial % 2 else None
        found = Cells.of(cells, clusters).contrast(dict(zip(names, weights, strict=True)))
        excluded = found.low > 0 or found.high < 0
        assert excluded == (found.p < 0.05)
        assert found.high > found.low
        assert np.isfinite([found.low, found.high, found.p]).all()
        shown += excluded
    assert 5 < shown < 295


def test_no_difference_anywhere_is_not_certainty() -> None:
    same = np.tile(np.arange(1319) % 3 == 0, (3, 1))
    found = difference(same, same)
    assert (found.estimate, found.p) == (0.0, 1.0)
    assert 0.001 < found.high == -found.low < 0.004


def coverage(seeds: tuple[int, int], spread: float, *, cluster_spread: float = 0.0, repeats: int = 400) -> float:
    """Return how often the interval covers 0 if nothing differs but seeds, and answers to one cluster of items."""
    rng = np.random.default_rng(11)
    items, hits = 600, 0
    for _ in range(repeats):
        clusters = rng.integers(0, 60, items) if cluster_spread else None
        difficulty = rng.beta(1.3, 0.7, items)
        shift = rng.normal(0, cluster_spread, 60)[clusters] if clusters is not None else 0.0
        a = answers(rng, seeds[0], difficulty + shift, spread)
        found = difference(a, answers(rng, seeds[1], difficulty, spread), clusters)
        hits += found.low <= 0 <= found.high
    return hits / repeats


@pytest.mark.parametrize(
    ("seeds", "spread", "cluster_spread"),
    [((3, 3), 0.0, 0.0), ((3, 3), 0.02, 0.0), ((3, 1), 0.02, 0.0), ((2, 2), 0.02, 0.0), ((3, 3), 0.01, 0.1)],
)
def test_coverage(seeds: tuple[int, int], spread: float, cluster_spread: float) -> None:
    assert 0.925 <= coverage(seeds, spread, cluster_spread=cluster_spread) <= 0.995


@pytest.mark.parametrize("shares", [(1.0, 1.0), (1.0, 0.0)])
def test_freedom_of_seeds_lies_between_that_of_one_cell_and_of_all(shares: tuple[float, float]) -> None:
    """Cells with equal variances of seeds have the degrees of both; if one has all of it, only its own."""
    by_seed = np.array([[-1.0], [0.0], [1.0]]) * np.sqrt(shares)  # (seeds, cells)
    items = np.zeros((3, 1000))  # without items' variance, the seeds' degrees are those of the whole
    cells = {name: items + by_seed[:, [i]] for i, name in enumerate("ab")}
    found = Cells.of(cells).contrast({"a": 1.0, "b": -1.0})
    assert found.freedom == pytest.approx(4.0 if shares[1] else 2.0, rel=0.01)


@pytest.mark.slow
def test_coverage_if_three_seeds_do_not_differ() -> None:
    """Hardly any item then tells the cells apart but its single answers, which seeds show with few degrees."""
    assert 0.935 <= coverage((3, 3), 0.0, repeats=6000) <= 0.966


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.beta(1.3, 0.7, 500)

    def width(shifts: list[float]) -> float:
        a, b = (rng.random((3, 500)) < np.clip(difficulty + np.array(shifts)[:, None], 0, 1) for _ in range(2))
        found = difference(a, b)
        return found.high - found.low

    assert width([-0.1, 0.0, 0.1]) > 2 * width([0.0, 0.0, 0.0])


@pytest.mark.parametrize(("seeds", "items"), [(1, 1319), (3, 400), (2, 300)])
def test_what_could_be_detected_is_shown_with_80_percent_power(seeds: int, items: int) -> None:
    """Against draws of Student's statistic with that effect in it."""
    rng = np.random.default_rng(13)
    found = difference(answers(rng, seeds, np.full(items, 0.6), 0.02), answers(rng, seeds, np.full(items, 0.6), 0.02))
    for alpha in (0.05, 0.05 / 6):
        away = found.detectable(alpha) / found.error
        limit = stats.t.ppf(1 - alpha / 2, found.freedom)
        drawn = (rng.normal(away, 1, 100_000)) / np.sqrt(rng.chisquare(found.freedom, 100_000) / found.freedom)
        power = float(np.mean(np.abs(drawn) > limit))
        assert power == pytest.approx(0.8, abs=0.015)


def test_the_seeds_share_of_an_error_is_not_the_items() -> None:
    rng = np.random.default_rng(14)
    difficulty = rng.beta(1.3, 0.7, 600)
    single = difference(answers(rng, 1, difficulty), answers(rng, 1, difficulty))
    assert single.item_share == 1.0
    a, b = answers(rng, 3, difficulty, 0.08), answers(rng, 3, difficulty, 0.08)
    found, half = difference(a, b), difference(a[:, :300], b[:, :300])
    assert 0 < found.item_share < 0.5
    items = found.item_share * found.error**2
    assert half.item_share * half.error**2 == pytest.approx(2 * items, rel=0.2)


def test_the_interval_at_another_level_has_the_same_centre() -> None:
    rng = np.random.default_rng(6)
    found = difference(answers(rng, 3, np.full(200, 0.6)), answers(rng, 3, np.full(200, 0.5)))
    assert found.interval(0.95) == pytest.approx((found.low, found.high))
    low, high = found.interval(0.9)
    assert found.low < low < high < found.high
    assert low + high == pytest.approx(found.low + found.high)


def test_accuracy_of_one_run_is_wilsons_interval() -> None:
    run = np.arange(200) < 129
    low, high = Cells.of({"a": run[None]}).accuracy("a")
    assert (low, high) == pytest.approx(wilson(129, 200), abs=4e-4)  # of the sample's variance, n / (n - 1)


def test_accuracy_without_an_error_is_not_certainty() -> None:
    right = np.ones((3, 100), bool)
    assert Cells.of({"a": right}).accuracy("a") == pytest.approx(wilson(100, 100))
    grouped = Cells.of({"a": right}, np.arange(100) // 5).accuracy("a")
    assert grouped == pytest.approx(score_interval_of(1.0, 20, float(stats.t.ppf(0.975, 19))))


@pytest.mark.parametrize("seeds", [1, 3])
def test_accuracies_of_clusters_have_a_width_and_hold_their_estimate(seeds: int) -> None:
    """Over random tables: never narrower than independent answers, never wider than one item a cluster; no jumps."""
    rng = np.random.default_rng(20)
    for trial in range(400):
        groups, size = int(rng.integers(2, 40)), int(rng.integers(1, 30))
        n = groups * size
        clusters = rng.permutation(np.repeat(np.arange(groups), size))
        rates = rng.choice([0.0, 0.02, 0.5, 0.97, 1.0], groups) if trial % 2 else np.full(groups, rng.random())
        scores = rng.random((seeds, n)) < rates[clusters]
        found = Cells.of({"a": scores}, clusters)
        low, high = found.accuracy("a")
        mean = float(scores.mean())
        assert 0 <= low <= mean <= high <= 1
        quantile = float(stats.t.ppf(0.975, groups - 1)) if size > 1 else 1.9599639845400545
        narrow = score_interval_of(mean, n * seeds, min(quantile, 1.96))
        assert high - low > (0.95 if seeds == 1 else 0.55) * (narrow[1] - narrow[0])
        inner = found.accuracy("a", level=0.9)
        assert low <= inner[0] <= inner[1] <= high
        if seeds == 1:
            least = max(1.0, groups - 1.5) if size > 1 else n
            wide = score_interval_of(mean, least, quantile)
            assert wide[0] - 1e-9 <= low <= high <= wide[1] + 1e-9


def test_more_clusters_that_are_right_never_lower_an_accuracys_bounds() -> None:
    for groups, size in ((6, 50), (20, 10), (60, 22)):
        clusters = np.repeat(np.arange(groups), size)
        bounds = [Cells.of({"a": (clusters < right)[None]}, clusters).accuracy("a") for right in range(groups + 1)]
        lows, highs = np.array(bounds).T
        assert (np.diff(lows) >= 0).all()
        assert (np.diff(highs) >= 0).all()
        assert (highs - lows > 0.02).all()


def test_clusters_with_equal_shares_of_right_answers_do_not_make_certain() -> None:
    """Half of each cluster is right: the clusters' means do not vary at all, and one answer more changes little."""
    clusters = np.repeat(np.arange(30), 10)
    right = np.tile([True, False], 150)
    low, high = Cells.of({"a": right[None]}, clusters).accuracy("a")
    assert (low, high) == pytest.approx(score_interval_of(0.5, 300, float(stats.t.ppf(0.975, 29))))
    right[1] = True
    assert Cells.of({"a": right[None]}, clusters).accuracy("a") == pytest.approx((low, high), abs=0.005)


def test_a_cell_with_one_seed_has_the_variance_of_the_others_seeds_of_its_group() -> None:
    rng = np.random.default_rng(21)
    difficulty = rng.beta(1.3, 0.7, 800)
    many, alone = answers(rng, 4, difficulty, 0.08), answers(rng, 1, difficulty)
    still = np.repeat(answers(rng, 1, difficulty), 4, axis=0)  # a baseline that no seed changes

    def width(cells: dict[str, np.ndarray], groups: dict[str, str] | None = None) -> float:
        low, high = Cells.of(cells, groups=groups or {}).accuracy("alone")
        return high - low

    single = width({"alone": alone})
    beside = width({"alone": alone, "many": many})
    assert beside > 2 * single
    assert width({"alone": alone, "many": many, "still": still}, {"still": "baseline"}) == pytest.approx(beside)
    assert width({"alone": alone, "still": still}, {"still": "baseline"}) == single


def test_accuracy_of_several_seeds_is_wider_if_they_differ() -> None:
    rng = np.random.default_rng(7)
    difficulty = rng.beta(1.3, 0.7, 800)
    alike, unlike = (Cells.of({"a": answers(rng, 4, difficulty, s)}).accuracy("a") for s in (0.0, 0.1))
    assert unlike[1] - unlike[0] > 2 * (alike[1] - alike[0])
    assert alike[1] - alike[0] < 0.07


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.05), (4, 0.0), (2, 0.1)])
def test_accuracy_of_several_seeds_by_hand(seeds: int, spread: float) -> None:
    """Wilson's interval at the answers of equal variance, Student's quantile at the freedom of seeds by share."""
    rng = np.random.default_rng(12)
    n = 300
    scores = answers(rng, seeds, rng.beta(1.3, 0.7, n), spread)
    cells = Cells.of({"a": scores})
    mean = float(scores.mean())
    weight = seeds * n * mean * (1 - mean)  # a quarter of an answer stands for seeds that answer alike
    design = (weight * scores.mean(axis=0).var() / (mean * (1 - mean)) + 0.25) / (weight + 0.25)
    items = mean * (1 - mean) * design / n
    variance = max(items + float(cells.seed_square[0] - cells.answer_noise[0]) / seeds, 0.35 * items)
    freedom = (seeds - 1) / min(1.0, float(cells.seed_square[0]) / seeds / variance) ** 1.2
    effective, quantile = mean * (1 - mean) / variance, float(stats.t.ppf(0.975, freedom))
    assert cells.accuracy("a") == pytest.approx(score_interval_of(mean, effective, quantile))


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.936), (2, 0.9)])
def test_the_accuracy_of_few_seeds_that_differ_is_covered(seeds: int, least: float) -> None:
    """With Satterthwaite's degrees of freedom three seeds cover 93.0 % and two 87.6 %.

    If they happen to lie close together, their share of the variance looks small and the degrees many.
    """
    rng = np.random.default_rng(23)
    hits, items, repeats = 0, 500, 2500
    for _ in range(repeats):
        difficulty = 0.15 + 0.7 * rng.random(items, dtype=np.float32)
        scores = rng.random((seeds, items), dtype=np.float32) < difficulty + rng.normal(0, 0.035, (seeds, 1))
        low, high = Cells.of({"a": scores}).accuracy("a")
        hits += low <= 0.5 <= high
    assert least <= hits / repeats <= 0.965


def test_refuses_cells_on_different_items() -> None:
    with pytest.raises(ValueError, match="same items"):
        Cells.of({"a": np.ones((1, 4)), "b": np.ones((1, 5))})
    with pytest.raises(ValueError, match="same items"):
        Cells.of({"a": np.ones((1, 4))}, np.zeros(5))
