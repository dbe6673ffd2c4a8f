"""Paired tests, intervals and power, so that no difference is claimed that the items do not support.

Two runs answer the same items, so the unit is the pair: n10 items that the first solves and the second does not,
n01 the reverse. Unpaired intervals would hide differences that pairing shows, and show ones that it does not.
Functions of counts accept numbers or arrays of equal shape.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm

Correction = Literal["holm", "fdr_bh"]
Array = NDArray[np.float64]


def discordant(a: ArrayLike, b: ArrayLike) -> tuple[int, int]:
    """Count the items that only `a` solves (n10) and those that only `b` solves (n01).

    Raises:
        ValueError: the two do not cover the same items.
    """
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"pairs need the same items: {first.shape} against {second.shape}")
    return int(np.sum(first & ~second)), int(np.sum(~first & second))


@overload
def mcnemar_exact(n10: int, n01: int) -> float: ...
@overload
def mcnemar_exact(n10: NDArray[Any], n01: NDArray[Any]) -> Array: ...
def mcnemar_exact(n10: Any, n01: Any) -> Any:
    """Return the two-sided p-value of McNemar's exact test: twice the smaller binomial tail, at most 1 (McNemar 1947).

    Its size is at most the level at every n, which the chi-squared version does not guarantee.
    """
    p = np.minimum(1.0, 2 * binom.cdf(np.minimum(n10, n01), np.add(n10, n01), 0.5))
    return float(p) if np.ndim(p) == 0 else p


def _score(delta: Array, n10: Array, n01: Array, n: int) -> tuple[Array, Array]:
    """Return the observed difference minus `delta` in items, and its standard error under `delta` (Tango 1998)."""
    linear = (2 * n - n10 + n01) * delta - n10 - n01
    root = np.sqrt(np.maximum(0.0, linear**2 + 8 * n * n01 * delta * (1 - delta)))
    p01 = (root - linear) / (4 * n)
    variance = n * (2 * p01 + delta * (1 - delta))
    return n10 - n01 - n * delta, np.sqrt(np.maximum(variance, 0.0))


def score_interval(
    n10: NDArray[Any], n01: NDArray[Any], n: int, level: float = 0.95, correction: Array | float = 0.0
) -> tuple[Array, Array]:
    """Return the score interval of the difference of two paired proportions, (n10 - n01) / n.

    It inverts the score test with the nuisance parameter at its constrained maximum likelihood (Tango 1998, Statistics
    in Medicine 17:891-908).

    Args:
        n10: items that only the first run solves, (pairs,).
        n01: items that only the second run solves, (pairs,).
        n: all items, at least 1.
        level: confidence level.
        correction: continuity correction in items, by which the observed difference is brought closer to the one that
            is tested, (pairs,).

    Returns:
        Lower and upper bounds, each in [-1, 1].
    """
    first, second = np.asarray(n10, float), np.asarray(n01, float)
    quantile = norm.ppf((1 + level) / 2)
    estimate = (first - second) / n

    def end(limit: float, sign: float) -> Array:
        inside, outside = estimate.copy(), np.full(first.shape, limit)
        for _ in range(60):  # the score falls with delta: bisect to where it reaches the quantile
            middle = (inside + outside) / 2
            gap, error = _score(middle, first, second, n)
            excess = sign * gap - correction
            accepted = (excess <= 0) | (excess < quantile * error)
            inside, outside = np.where(accepted, middle, inside), np.where(accepted, outside, middle)
        return inside

    return end(-1.0, 1.0), end(1.0, -1.0)


@overload
def paired_interval(n10: int, n01: int, n: int, level: float = 0.95) -> tuple[float, float]: ...
@overload
def paired_interval(n10: NDArray[Any], n01: NDArray[Any], n: int, level: float = 0.95) -> tuple[Array, Array]: ...
def paired_interval(n10: Any, n01: Any, n: int, level: float = 0.95) -> tuple[Any, Any]:
    """Return the interval of the difference of two paired proportions that belongs to McNemar's exact test.

    It is Tango's score interval with the continuity correction at which the score test of no difference has the p-value
    of the exact test: at most 1.05 items. So 0 lies outside if and only if that p-value is below 1 - level. It covers
    95 to 97 % with 10 discordant items or more, as the exact test keeps its level; with none its width is that of the
    score interval.

    Args:
        n10: items that only the first run solves.
        n01: items that only the second run solves.
        n: all items; 0 gives (-1, 1), since nothing is known.
        level: confidence level.

    Returns:
        Lower and upper bound, each in [-1, 1].
    """
    first, second = np.broadcast_arrays(np.asarray(n10, float), np.asarray(n01, float))
    if n == 0:
        low, high = np.full(first.shape, -1.0), np.full(first.shape, 1.0)
    else:
        gap = np.abs(first - second)
        normal = norm.isf(np.asarray(mcnemar_exact(first, second)) / 2)
        correction = np.clip(gap - normal * np.sqrt(first + second), 0.0, gap)
        low, high = score_interval(first, second, n, level, correction)
    return (float(low), float(high)) if first.ndim == 0 else (low, high)


def adjust(p_values: Sequence[float | None], method: Correction = "holm") -> list[float | None]:
    """Adjust p-values for their number: Holm (1979) for a declared family, Benjamini-Hochberg (1995) for a sweep.

    None stands for a comparison that was not run; it stays None and does not count.
    """
    if method not in ("holm", "fdr_bh"):
        raise ValueError(f"unknown correction {method!r}: use holm or fdr_bh")
    known = np.array([p for p in p_values if p is not None])
    order = np.argsort(known)
    ranks = np.arange(1, len(known) + 1)
    # Each p times its factor, and never below (Holm) or above (Benjamini-Hochberg) that of a smaller or larger one.
    if method == "holm":
        stepped = np.maximum.accumulate(known[order] * ranks[::-1])
    else:
        stepped = np.minimum.accumulate((known[order] * len(known) / ranks)[::-1])[::-1]
    corrected = np.empty(len(known))
    corrected[order] = np.minimum(1.0, stepped)
    adjusted = iter(corrected.tolist())
    return [None if p is None else next(adjusted) for p in p_values]


def mcnemar_power(n: int, discordance: float, difference: float, alpha: float = 0.05) -> float:
    """Return the exact power of the exact McNemar test, over both the number of discordant items and their split.

    Args:
        n: number of items.
        discordance: probability that an item is discordant, at least |difference|.
        difference: true difference of the two accuracies.
        alpha: level of the test.

    Returns:
        The probability that the test rejects.

    Raises:
        ValueError: the discordance is smaller than the difference, or above 1.
    """
    if abs(difference) > discordance or discordance > 1:
        raise ValueError(f"difference {difference} needs a discordance between {abs(difference)} and 1")
    if discordance == 0:
        return 0.0
    share = (1 + difference / discordance) / 2
    pairs, probability = _numbers_of_pairs(n, discordance)
    limit = _limits(n, alpha)[pairs]
    rejected = np.where(limit < 0, 0.0, binom.cdf(limit, pairs, share) + binom.sf(pairs - limit - 1, pairs, share))
    return float(np.sum(probability * rejected))


@lru_cache(maxsize=1 << 10)
def _numbers_of_pairs(n: int, discordance: float) -> tuple[NDArray[np.int64], Array]:
    """Return the numbers of discordant items out of n that occur, with their probabilities; the rest has 2e-10."""
    spread = binom.ppf([1e-10, 1 - 1e-10], n, discordance).astype(int)
    pairs = np.arange(max(1, spread[0]), spread[1] + 1)
    return pairs, binom.pmf(pairs, n, discordance)


@lru_cache(maxsize=1 << 6)
def _limits(n: int, alpha: float) -> Array:
    """Return the largest smaller count that still rejects, by number of discordant items 0..n; -1 if none does."""
    pairs = np.arange(n + 1)
    limit = binom.ppf(alpha / 2, pairs, 0.5)
    return np.where(2 * binom.cdf(limit, pairs, 0.5) < alpha, limit, limit - 1)


@lru_cache(maxsize=1 << 12)
def minimum_detectable_effect(n: int, discordance: float, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Return the smallest true difference that n items show with the given power, at this rate of discordance.

    If the rate is smaller than such a difference, it is raised to the difference itself: every discordant item is then
    solved by the same run.

    Args:
        n: number of items.
        discordance: share of items that exactly one of the two runs solves.
        power: probability with which the test is to reject.
        alpha: level of the test.

    Returns:
        The difference in [0, 1], or None if so few items can show none.
    """

    def excess(difference: float) -> float:
        return mcnemar_power(n, min(1.0, max(discordance, difference)), difference, alpha) - power

    if n < 1 or excess(1.0) < 0:
        return None
    return float(brentq(excess, 1e-9, 1.0, xtol=1e-6))
