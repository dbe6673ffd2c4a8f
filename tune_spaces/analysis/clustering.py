"""The variance of a mean over items that come in clusters, and how well it is known, also with few clusters.

The textbook's sandwich is too small with few clusters, and a normal quantile ignores that the variance itself is an
estimate. Here each cluster's residual is scaled up by what the mean takes from it (CR2; Bell & McCaffrey 2002, Survey
Methodology 28:169-181), and the degrees of freedom are Satterthwaite's under the correlation that the items show
(Imbens & Kolesár 2016, Review of Economics and Statistics 98:701-712). With clusters of equal size this is the t-test
over the clusters' means.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Clusters = NDArray[np.int64]

LEAST = 0.35
"""Share of the variance of independent items below which that of clusters is never put: where all clusters happen to
have nearly one mean, their few residuals say nothing of how far others would lie."""

PRIOR = 0.25
"""Answers that the largest possible design effect weighs as much as."""


@dataclass(frozen=True, kw_only=True)
class MeanVariance:
    """The variance of a mean over items.

    Attributes:
        variance: of the mean.
        independent: what it would be if items were independent.
        freedom: degrees of freedom of `variance`.
    """

    variance: float
    independent: float
    freedom: float


def numbered(clusters: ArrayLike | None) -> Clusters | None:
    """Return clusters as numbers from 0, (items,); None if there are none or each has a single item."""
    if clusters is None:
        return None
    numbers = np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)
    return None if len(numbers) == 0 or int(numbers.max()) + 1 == len(numbers) else numbers


def mean_variance(values: Array, clusters: Clusters | None) -> MeanVariance:
    """Return the variance of the mean of values, (items,), with its degrees of freedom.

    Args:
        values: one number an item.
        clusters: number of each item's cluster from 0, (items,); None if items are independent.
    """
    n = len(values)
    residuals = values - values.mean()
    alone = float(residuals @ residuals) / max(1, n - 1) / n
    if clusters is None:
        return MeanVariance(variance=alone, independent=alone, freedom=float(max(1, n - 1)))
    sizes = np.bincount(clusters).astype(float)  # (clusters,)
    if len(sizes) == 1:  # nothing tells how far another cluster would lie: as if all its items were one
        return MeanVariance(variance=alone * n, independent=alone, freedom=1.0)
    sums = np.bincount(clusters, weights=residuals)  # (clusters,)
    share = sizes / n  # (clusters,)
    scale = 1 / (1 - share)  # (clusters,)
    plain = float(scale @ sums**2) / n**2
    # The items' correlation within clusters, by which the sums' own variances are known up to a factor.
    most = float(sizes @ share)
    design = plain / alone if alone > 0 else 1.0
    correlation = float(np.clip((design - 1) / (most - 1), 0.0, 1.0)) if most > 1 else 0.0
    own = sizes * (1 - correlation) + sizes**2 * correlation  # (clusters,)
    bias, freedom = _moments(own, share, scale)
    return MeanVariance(variance=max(plain / bias, LEAST * alone), independent=alone, freedom=freedom)


def effective_items(by_item: Array, clusters: Clusters | None, answers: int) -> tuple[float, float]:
    """Return the number of independent items that would give an accuracy's variance, and its degrees of freedom.

    It is the number of items over the design effect (Kish 1965), the variance over that of independent items. Where
    hardly any answer is right, or wrong, that is hardly known, so it is drawn towards the largest possible one, of
    clusters that are all right or all wrong, with the weight of `PRIOR` answers: without a wrong answer each cluster
    counts as one item. A single answer more then changes the interval by little.

    Args:
        by_item: mean score of each item over its answers, (items,).
        clusters: number of each item's cluster from 0, (items,); None if items are independent.
        answers: number of single answers, at least the items. No interval is narrower than theirs would be if they
            were independent.

    Returns:
        The number of items, and the degrees of freedom; these are infinite if items are independent, as for Wilson's
        interval.
    """
    n, mean = len(by_item), float(by_item.mean())
    if clusters is None and answers == n:
        return float(n), np.inf
    binomial = mean * (1 - mean)
    if clusters is None:
        most, variance, freedom = 1.0, float(by_item.var()) / n, np.inf
    else:
        known = mean_variance(by_item, clusters)
        most, variance, freedom = largest_design_effect(clusters), known.variance, known.freedom
    weight = answers * binomial
    design = (weight * variance * n / binomial + PRIOR * most) / (weight + PRIOR) if binomial > 0 else most
    return n / max(design, n / answers), freedom


def largest_design_effect(clusters: Clusters) -> float:
    """Return the design effect of clusters that are all right or all wrong: the mean size of an item's cluster."""
    return float(np.sum(np.bincount(clusters).astype(float) ** 2)) / len(clusters)


def _moments(own: Array, share: Array, scale: Array) -> tuple[float, float]:
    """Return the expectation of the scaled sum of squares over what it estimates, and Satterthwaite's freedom.

    The residual of cluster g is S_g - h_g S, S the sum over all clusters and h_g its share of the items, so that
    cov(g, k) = [g = k] v_g - h_k v_g - h_g v_k + h_g h_k V.

    Args:
        own: variance of each cluster's sum, up to a factor: v_g, (clusters,).
        share: of each cluster in the items: h_g, (clusters,).
        scale: factor of each squared residual, (clusters,).
    """
    total = float(own.sum())
    own_own, share_share, own_share = (float(scale @ x) for x in (own**2, share**2, own * share))
    common = total * share**2 - 2 * own * share  # what every covariance has besides the diagonal's own variance
    diagonal = own + common
    squares = 2 * own_own * share_share + 2 * own_share**2
    squares += total * share_share * (total * share_share - 4 * own_share)
    squares += float(scale**2 @ (diagonal**2 - common**2))
    expected = float(scale @ diagonal)
    return expected / total, expected**2 / squares
