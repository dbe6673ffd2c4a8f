"""The variance of a mean over clusters: against matrices, and the errors of tests with few clusters by simulation."""

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import inv, sqrtm

from tune_spaces.analysis.clustering import effective_items, mean_variance, numbered

Sizes = tuple[int, ...]
UNEQUAL: Sizes = (1, 2, 3, 5, 8, 13, 40)


def items_of(sizes: Sizes) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def test_the_variance_is_cr2_with_satterthwaites_freedom_by_matrices() -> None:
    """Bell & McCaffrey's estimate from the hat matrix; freedom and bias under items that are equally correlated."""
    rng = np.random.default_rng(0)
    clusters = items_of(UNEQUAL)
    n, own = len(clusters), np.eye(len(UNEQUAL))[clusters]  # (items, clusters)
    values = rng.normal(0, 1, n) + 0.5 * rng.normal(0, 1, len(UNEQUAL))[clusters]
    found = mean_variance(values, clusters)
    hat = np.full((n, n), 1 / n)
    columns = []  # what each cluster adds to the sum of squares, as a vector that multiplies the values
    for cluster in range(len(UNEQUAL)):
        rows = clusters == cluster
        adjustment = inv(sqrtm(np.eye(rows.sum()) - hat[np.ix_(rows, rows)]))
        columns.append((np.eye(n) - hat)[:, rows] @ adjustment @ np.ones(rows.sum()) / n)
    loads = np.array(columns).T  # (items, clusters)
    plain = float(np.sum((values @ loads) ** 2))
    alone = values.var(ddof=1) / n
    most = np.sum(np.square(UNEQUAL)) / n
    correlation = (plain / alone - 1) / (most - 1)
    assert 0 < correlation < 1
    covariance = (1 - correlation) * np.eye(n) + correlation * own @ own.T
    moments = loads.T @ covariance @ loads
    truth = np.full(n, 1 / n) @ covariance @ np.full(n, 1 / n)
    assert found.independent == pytest.approx(alone)
    assert found.variance == pytest.approx(plain * truth / np.trace(moments))
    assert found.freedom == pytest.approx(np.trace(moments) ** 2 / np.sum(moments**2))


def test_clusters_of_one_size_are_the_t_test_over_their_means() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 60) + np.repeat(rng.normal(0, 1, 6), 10)
    found = mean_variance(values, np.repeat(np.arange(6), 10))
    assert found.variance == pytest.approx(values.reshape(6, 10).mean(axis=1).var(ddof=1) / 6)
    assert found.freedom == pytest.approx(5)


def test_items_alone_in_their_clusters_are_independent() -> None:
    assert numbered(None) is None
    assert numbered(["a", "b", "c"]) is None
    assert numbered([]) is None
    assert numbered(["b", "a", "b"]).tolist() == [1, 0, 1]  # type: ignore[union-attr]
    values = np.random.default_rng(2).normal(0, 1, 50)
    found = mean_variance(values, None)
    assert (found.variance, found.freedom) == pytest.approx((values.var(ddof=1) / 50, 49))


def test_clusters_with_one_mean_are_not_certain() -> None:
    values = np.tile([1.0, -1.0], 50)
    found = mean_variance(values, np.repeat(np.arange(10), 10))
    assert found.variance == pytest.approx(0.35 * found.independent)


def test_a_single_cluster_is_worth_one_item() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0])
    found = mean_variance(values, np.zeros(4, dtype=np.int64))
    assert found.variance == pytest.approx(values.var(ddof=1))
    assert found.freedom == 1


SPREADS = (0.0, 0.1)


def sizes_of(kind: str, clusters: int) -> Sizes:
    if kind == "equal":
        return (1320 // clusters,) * clusters
    weights = 1 / np.arange(1, clusters + 1)
    return tuple(np.maximum(1, np.round(1320 * weights / weights.sum())).astype(int).tolist())


@pytest.mark.parametrize(
    ("clusters", "kind"),
    [
        pytest.param(6, "equal", marks=pytest.mark.slow),
        pytest.param(10, "equal", marks=pytest.mark.slow),
        (20, "equal"),
        pytest.param(60, "equal", marks=pytest.mark.slow),
        (6, "very unequal"),
        pytest.param(20, "very unequal", marks=pytest.mark.slow),
    ],
)
def test_at_most_6_percent_of_tests_reject_wrongly_however_few_clusters_there_are(clusters: int, kind: str) -> None:
    """Of two runs that differ in nothing but what each cluster happens to favour."""
    of_items = items_of(sizes_of(kind, clusters))
    for spread in SPREADS:
        rng = np.random.default_rng(clusters)
        repeats, rejected = 2000, 0
        for _ in range(repeats):
            difficulty = rng.beta(1.3, 0.7, len(of_items))
            shifts = rng.normal(0, spread, (2, clusters))[:, of_items]
            first, second = rng.random((2, len(of_items))) < difficulty + shifts
            values = first.astype(float) - second
            found = mean_variance(values, of_items)
            rejected += abs(values.mean()) > stats.t.ppf(0.975, found.freedom) * np.sqrt(found.variance)
        assert rejected / repeats <= 0.06 + 0.005, f"{clusters} {kind} clusters, spread {spread}"
        if kind == "equal":
            assert rejected / repeats >= 0.03


def test_the_number_of_independent_items_of_clusters() -> None:
    """All right or all wrong: one a cluster. Independent: nearly the items. Without a wrong answer: one a cluster."""
    clusters = items_of((20,) * 30)
    alike = np.repeat(np.arange(30) % 3 > 0, 20).astype(float)
    assert effective_items(alike, clusters, 600)[0] == pytest.approx(29, abs=0.1)
    rng = np.random.default_rng(3)
    apart = [effective_items((rng.random(600) < 0.7).astype(float), clusters, 600)[0] for _ in range(50)]
    assert 480 < np.mean(apart) <= 600
    assert max(apart) == 600
    assert effective_items(np.ones(600), clusters, 600)[0] == pytest.approx(30)
    one_wrong = np.ones(600)
    one_wrong[0] = 0
    assert 30 < effective_items(one_wrong, clusters, 600)[0] < 600
    assert effective_items(np.ones(600), None, 600) == (600, np.inf)
    assert effective_items(np.ones(600), None, 1800)[0] == 600
