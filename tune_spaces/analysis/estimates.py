"""Estimate accuracies and contrasts of configurations from their variance components: items, clusters, seeds.

A cell is one configuration: a matrix of scores, (seeds, items). All cells answer the same items, so a contrast of cells
is one number an item, and its variance over items holds what the cells share and what single answers add. Seeds have a
variance of their own. Intervals and p-values come from one statistic, Student's t, so that an interval excludes 0 if
and only if p is below the level (Miller 2024, "Adding Error Bars to Evals"; two-way analysis of variance for seeds).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

from bridge_common.intervals import score_interval_of
from tune_spaces.analysis.clustering import (
    LEAST,
    Array,
    Clusters,
    effective_items,
    mean_variance,
    numbered,
)

LEVEL = 0.95
POWER = 0.8
SHARE_EXPONENT = 1.2
"""Chosen so that intervals over three seeds cover 93.8 to 95.8 %, whatever the seeds' share of the variance: with
Satterthwaite's 2 it is 92.2 to 95 %, with 1 it is 94.2 to 96.3 %."""
LEAST_OF_CONTRAST = 0.2
"""Share of the items' variance below which the variance of a contrast is never put, if seeds happen to differ less than
their single answers explain. It may be lower than that of an accuracy, since two cells or more have more seeds."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An effect with its interval and the two-sided p-value of no effect.

    Attributes:
        estimate: the effect.
        low, high: its interval.
        p: below 1 - level if and only if the interval excludes 0.
        error: standard error.
        freedom: degrees of freedom of the error.
        with_seeds: whether the error covers other seeds; False if no configuration ran under several.
        item_share: share of the squared error that more items would reduce; the rest is the seeds'.
    """

    estimate: float
    low: float
    high: float
    p: float
    error: float
    freedom: float
    with_seeds: bool
    item_share: float = 1.0

    def detectable(self, alpha: float, power: float = POWER) -> float:
        """Return the true effect that a two-sided test shows with the given power at this error.

        Of Student's noncentral distribution the normal approximation by Johnson & Welch (1940, Biometrika 31:362-389).

        Args:
            alpha: level of the test.
            power: probability with which the test is to reject.
        """
        limit = float(stdtrit(self.freedom, 1 - alpha / 2))
        away = limit * (1 - 1 / (4 * self.freedom)) + float(ndtri(power)) * (1 + limit**2 / (2 * self.freedom)) ** 0.5
        return away * self.error

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval at another level, about the centre of this one."""
        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        centre = (self.low + self.high) / 2
        return centre - half, centre + half


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Configurations on the same items, with what their contrasts need.

    Attributes:
        names: name of each cell, (cells,).
        by_item: mean score of each item over a cell's seeds, (items, cells).
        clusters: number of each item's cluster, (items,); None if items are independent.
        seeds: number of each cell's seeds, (cells,).
        seed_square: variance of a cell's accuracy between its seeds, (cells,); of cells with one seed that of
            the others of their group pooled, 0 if there are none.
        answer_noise: how much of it single answers explain by two-way analysis of variance, (cells,).
        seed_freedom: degrees of freedom of `seed_square`, (cells,); 0 if it is not known.
    """

    names: tuple[str, ...]
    by_item: Array
    clusters: Clusters | None
    seeds: NDArray[np.int64]
    seed_square: Array
    answer_noise: Array
    seed_freedom: Array

    @classmethod
    def of(
        cls,
        cells: Mapping[str, ArrayLike],
        clusters: ArrayLike | None = None,
        groups: Mapping[str, str] = MappingProxyType({}),
    ) -> "Cells":
        """Return cells ready for contrasts.

        Args:
            cells: scores by name, (seeds, items), all on the same items in the same order.
            clusters: a number for each item, the same for items that are not independent, (items,); or None.
            groups: group of each cell, by name, within which seeds vary alike: a condition without a bridge varies
                less, or not at all. Cells that are left out are one group.

        Raises:
            ValueError: the cells do not cover the same items.
        """
        matrices = [np.atleast_2d(np.asarray(cell, dtype=float)) for cell in cells.values()]
        items = {matrix.shape[1] for matrix in matrices} | (
            {len(np.asarray(clusters))} if clusters is not None else set()
        )
        if len(items) != 1:
            raise ValueError(f"cells need the same items: {sorted(items)}")
        seeds = np.array([len(matrix) for matrix in matrices])  # (cells,)
        square, noise = np.array([_seed_square(matrix) for matrix in matrices]).T  # (cells,), (cells,)
        freedom = (seeds - 1).astype(float)  # (cells,)
        group_of = np.array([groups.get(name, "") for name in cells])  # (cells,)
        for group in np.unique(group_of):
            alike = group_of == group
            alone, several = alike & (seeds == 1), alike & (seeds > 1)
            total = float(freedom[several].sum())
            if total:
                square[alone], noise[alone] = (
                    float(values[several] @ freedom[several]) / total for values in (square, noise)
                )
                freedom[alone] = total
        return cls(
            names=tuple(cells),
            by_item=np.stack([matrix.mean(axis=0) for matrix in matrices], axis=1),
            clusters=numbered(clusters),
            seeds=seeds,
            seed_square=square,
            answer_noise=noise,
            seed_freedom=freedom,
        )

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.by_item)

    @property
    def groups(self) -> int:
        """Number of independent groups of items."""
        return self.items if self.clusters is None else int(self.clusters.max()) + 1

    @property
    def independent(self) -> bool:
        """Whether no two items belong to one cluster."""
        return self.groups == self.items

    def contrast(self, weights: Mapping[str, float], *, level: float = LEVEL) -> Estimate:
        """Estimate a weighted sum of the cells' means.

        Cells with a single run each are compared as they were trained, whatever is known of other cells' seeds, as the
        exact test does: one replicate elsewhere would leave a single degree of freedom to all of them. If some of the
        cells have several seeds, those with one have the pooled variance of the others.

        Two made-up items, one an answer better and one an answer worse, keep an interval from having no width where
        hardly any item differs (Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial
        proportions based on paired data"). They move its centre by a factor of n / (n + 2).

        Args:
            weights: by the cell's name; cells that are left out have weight 0.
            level: confidence level of the interval.
        """
        used = [i for i, name in enumerate(self.names) if weights.get(name)]
        w = np.array([weights[self.names[i]] for i in used])  # (used,)
        by_item = self.by_item[:, used] @ w  # (items,)
        centre, items, item_freedom = self._items(by_item, float(np.abs(w).max()))
        scale = w**2 / self.seeds[used]  # (used,)
        several = bool((self.seeds[used] > 1).any())
        excess = float(np.sum(scale * (self.seed_square - self.answer_noise)[used])) if several else 0.0
        of_seeds = self._of_seeds(used, scale) if several else (0.0, np.inf)
        variance = max(items + excess, LEAST_OF_CONTRAST * items)
        freedom = _freedom(variance, item_freedom, *of_seeds)
        error = float(np.sqrt(variance))
        half = float(stdtrit(freedom, (1 + level) / 2)) * error
        return Estimate(
            estimate=float(by_item.mean()),
            low=centre - half,
            high=centre + half,
            p=min(1.0, 2 * float(stdtr(freedom, -abs(centre) / error))),
            error=error,
            freedom=freedom,
            with_seeds=several and bool((self.seed_freedom[used] > 0).all()),
            item_share=min(1.0, items / variance),
        )

    def _items(self, by_item: Array, size: float) -> tuple[float, float, float]:
        """Return centre, variance over items and its degrees of freedom, with two made-up items of +size and -size."""
        values = np.concatenate([by_item, [size, -size]])  # (items + 2,)
        if self.clusters is None:
            known = mean_variance(values, None)
            return float(values.mean()), known.variance, known.freedom
        known = mean_variance(by_item, self.clusters)
        # The made-up items are no clusters: they add to the variance, but nothing to how well it is known.
        variance = (known.variance * len(by_item) ** 2 + 2 * size**2) / len(values) ** 2
        return float(values.mean()), variance, known.freedom

    def _of_seeds(self, used: Sequence[int], scale: Array) -> tuple[float, float]:
        """Return the part of a variance that is estimated from seeds, and its degrees of freedom.

        With so few seeds Satterthwaite's estimate of these is too small where cells have equal variances. Welch's
        (1947, Biometrika 34:28-35), which adds 2 to each cell's degrees and takes 2 from the result, is too large where
        they do not. The estimate between the two, which adds and takes 1, is used, within what is possible.
        """
        shares, freedom = scale * self.seed_square[used], self.seed_freedom[used]  # (used,), (used,)
        total = float(shares.sum())
        if total == 0 or not freedom.any():
            return 0.0, np.inf
        if (self.seeds[used] == 1).any():  # its variance is the others', so their errors add up
            return total, float(freedom.max())
        estimate = total**2 / float(np.sum(shares**2 / (freedom + 1))) - 1
        return total, float(np.clip(estimate, freedom.min(), freedom.sum()))

    def accuracy(self, name: str, *, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval of one cell's accuracy: Wilson's, at the number of independent answers of equal variance.

        With clusters or several seeds that number is an estimate, and the quantile is Student's.

        Args:
            name: of the cell.
            level: confidence level.
        """
        index = self.names.index(name)
        by_item, seeds = self.by_item[:, index], int(self.seeds[index])  # (items,)
        n, mean = self.items, float(by_item.mean())
        effective, item_freedom = effective_items(by_item, self.clusters, seeds * n)
        binomial, freedom = mean * (1 - mean), item_freedom
        scale = np.array([1 / seeds])
        excess = float(self.seed_square[index] - self.answer_noise[index]) / seeds
        if self.seed_freedom[index] > 0 and binomial > 0:
            items = binomial / effective
            variance = max(items + excess, LEAST * items)
            effective = binomial / variance
            freedom = _freedom(variance, item_freedom, *self._of_seeds([index], scale))
        quantile = stdtrit(freedom, (1 + level) / 2) if np.isfinite(freedom) else ndtri((1 + level) / 2)
        return score_interval_of(mean, effective, float(quantile))


def _freedom(variance: float, item_freedom: float, of_seeds: float, seed_freedom: float) -> float:
    """Return the degrees of freedom of a variance of which a part is estimated from seeds and the rest from items.

    The reciprocal is the sum of the parts' reciprocals, each times its share to the power of `SHARE_EXPONENT`.
    Satterthwaite (1946, Biometrics Bulletin 2:110-114) squares the shares and trusts few seeds too much where they make
    up most of the variance: when they happen to lie close together, their share looks small and the degrees many.

    Args:
        variance: the whole.
        item_freedom: of the part from items.
        of_seeds: the part that is estimated from seeds; single answers that differ between seeds are in it.
        seed_freedom: its degrees of freedom.
    """
    share = min(1.0, of_seeds / variance)
    reciprocal = (1 - share) ** SHARE_EXPONENT / item_freedom + share**SHARE_EXPONENT / seed_freedom
    return 1 / reciprocal if reciprocal > 0 else np.inf


def _seed_square(scores: Array) -> tuple[float, float]:
    """Return the variance of a cell's accuracy between seeds, and what of it its single answers explain."""
    seeds, items = scores.shape
    if seeds < 2 or items < 2:
        return 0.0, 0.0
    by_seed = scores.mean(axis=1)  # (seeds,)
    residual = scores - scores.mean(axis=0) - by_seed[:, None] + scores.mean()  # (seeds, items)
    noise = float(np.sum(residual**2)) / ((seeds - 1) * (items - 1))
    return float(np.var(by_seed, ddof=1)), noise / items
