"""Estimate accuracies and contrasts of configurations from their variance components: items, clusters, seeds.

A cell is one configuration: a matrix of scores, (seeds, items). All cells answer the same items, so a contrast of cells
is one number an item, and its variance over items holds what the cells share and what single answers add. Seeds have a
variance of their own. Intervals and p-values come from one statistic, Student's t, so that an interval excludes 0 if
and only if p is below the level (Miller 2024, "Adding Error Bars to Evals"; two-way analysis of variance for seeds).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

Array = NDArray[np.float64]
Clusters = NDArray[np.int64]

LEVEL = 0.95
LEAST = 0.35
"""Share of the items' variance below which the whole is never put, if seeds differ less than single answers explain."""


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
    """

    estimate: float
    low: float
    high: float
    p: float
    error: float
    freedom: float
    with_seeds: bool

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval at another level, about the centre of this one."""
        half = float(t.ppf((1 + level) / 2, self.freedom)) * self.error
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
        seed_square: variance of a cell's accuracy between its seeds, (cells,); of cells with one seed that of the
            others pooled, 0 if there are none.
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
    def of(cls, cells: Mapping[str, ArrayLike], clusters: ArrayLike | None = None) -> "Cells":
        """Return cells ready for contrasts.

        Args:
            cells: scores by name, (seeds, items), all on the same items in the same order.
            clusters: a number for each item, the same for items that are not independent, (items,); or None.

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
        alone, total = seeds == 1, float(freedom.sum())
        if total:
            square[alone], noise[alone] = float(square @ freedom) / total, float(noise @ freedom) / total
            freedom[alone] = total
        return cls(
            names=tuple(cells),
            by_item=np.stack([matrix.mean(axis=0) for matrix in matrices], axis=1),
            clusters=None if clusters is None else _numbered(clusters),
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
        size = float(np.abs(w).max())
        values = np.concatenate([by_item, [size, -size]])  # (items + 2,)
        centre = float(values.mean())
        items = float(np.sum(_cluster_sums(values - centre, self.clusters) ** 2)) / len(values) ** 2
        groups = self.groups + 2
        items *= groups / (groups - 1)
        scale = w**2 / self.seeds[used]  # (used,)
        excess = float(np.sum(scale * (self.seed_square - self.answer_noise)[used]))
        variance = max(items + excess, LEAST * items)
        squares = items**2 / (groups - 1) + self._seed_squares(used, scale)
        freedom = max(1.0, variance**2 / squares)
        error = float(np.sqrt(variance))
        half = float(t.ppf((1 + level) / 2, freedom)) * error
        return Estimate(
            estimate=float(by_item.mean()),
            low=centre - half,
            high=centre + half,
            p=min(1.0, 2 * float(t.sf(abs(centre) / error, freedom))),
            error=error,
            freedom=freedom,
            with_seeds=bool((self.seed_freedom[used] > 0).all()),
        )

    def _seed_squares(self, used: Sequence[int], scale: Array) -> float:
        """Return what seeds add to the denominator of Satterthwaite's degrees of freedom.

        It is the square of what seeds add to the variance over its own degrees of freedom. With so few seeds
        Satterthwaite's estimate of these is too small where cells have equal variances. Welch's (1947, Biometrika
        34:28-35), which adds 2 to each cell's degrees and takes 2 from the result, is too large where they do not. The
        estimate between the two, which adds and takes 1, is used, within what is possible.
        """
        shares, freedom = scale * self.seed_square[used], self.seed_freedom[used]  # (used,), (used,)
        total = float(shares.sum())
        if total == 0 or not freedom.any():
            return 0.0
        if (self.seeds[used] == 1).any():  # its variance is the others', so their errors add up
            return total**2 / float(freedom.max())
        estimate = total**2 / float(np.sum(shares**2 / (freedom + 1))) - 1
        return total**2 / float(np.clip(estimate, freedom.min(), freedom.sum()))

    def accuracy(self, name: str, *, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval of one cell's accuracy: Wilson's, at the number of independent answers of equal variance.

        Args:
            name: of the cell.
            level: confidence level.
        """
        index = self.names.index(name)
        by_item = self.by_item[:, index]  # (items,)
        n, mean = self.items, float(by_item.mean())
        groups = self.groups
        items = float(np.sum(_cluster_sums(by_item - mean, self.clusters) ** 2)) / n**2 * groups / max(1, groups - 1)
        variance, freedom = items, np.inf
        if self.seeds[index] > 1:
            scale = np.array([1 / self.seeds[index]])
            excess = float(self.seed_square[index] - self.answer_noise[index]) * scale[0]
            variance = max(items + excess, LEAST * items)
            squares = items**2 / max(1, groups - 1) + self._seed_squares([index], scale)
            freedom = max(1.0, variance**2 / squares) if squares > 0 else np.inf
        binomial = mean * (1 - mean)
        effective = binomial / variance if variance > 0 and binomial > 0 else float(groups)
        return _wilson(mean, effective, float(t.ppf((1 + level) / 2, freedom)))


def _numbered(clusters: ArrayLike) -> Clusters:
    return np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)


def _cluster_sums(residuals: Array, clusters: Clusters | None) -> Array:
    """Return the sum of the residuals of each cluster; what follows the items stands alone."""
    if clusters is None:
        return residuals
    beyond = residuals[len(clusters) :]
    return np.concatenate([np.bincount(clusters, weights=residuals[: len(clusters)]), beyond])


def _seed_square(scores: Array) -> tuple[float, float]:
    """Return the variance of a cell's accuracy between seeds, and what of it its single answers explain."""
    seeds, items = scores.shape
    if seeds < 2 or items < 2:
        return 0.0, 0.0
    by_seed = scores.mean(axis=1)  # (seeds,)
    residual = scores - scores.mean(axis=0) - by_seed[:, None] + scores.mean()  # (seeds, items)
    noise = float(np.sum(residual**2)) / ((seeds - 1) * (items - 1))
    return float(np.var(by_seed, ddof=1)), noise / items


def _wilson(mean: float, n: float, quantile: float) -> tuple[float, float]:
    square = quantile**2 / n
    centre = (mean + square / 2) / (1 + square)
    half = quantile * np.sqrt(mean * (1 - mean) / n + square / (4 * n)) / (1 + square)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """How far runs of one configuration differ by chance alone.

    Attributes:
        largest: largest absolute difference between two replicates, which an effect has to exceed.
        deviation: pooled standard deviation of one run around its configuration.
        pairs: number of pairs of replicates.
        degrees_of_freedom: those of `deviation`; with 1 it is hardly known.
    """

    largest: float
    deviation: float
    pairs: int
    degrees_of_freedom: int


def noise_floor(replicates: Sequence[Sequence[float]]) -> NoiseFloor | None:
    """Estimate the noise floor from configurations that ran more than once.

    Args:
        replicates: accuracies of the runs of each configuration, which differ by chance alone.

    Returns:
        The noise floor, or None if no configuration ran twice.
    """
    groups = [np.asarray(group, dtype=float) for group in replicates if len(group) > 1]
    if not groups:
        return None
    gaps = [abs(first - second) for group in groups for first, second in combinations(group.tolist(), 2)]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups)
    return NoiseFloor(
        largest=max(gaps), deviation=float(np.sqrt(squares / freedom)), pairs=len(gaps), degrees_of_freedom=freedom
    )
