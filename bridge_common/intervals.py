"""The confidence interval that is reported with every accuracy."""

from math import sqrt
from statistics import NormalDist


def wilson(correct: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson 1927; Brown, Cai & DasGupta 2001).

    Args:
        correct: number of successes.
        n: number of trials. Without trials nothing is known, and the interval is (0, 1).
        level: confidence level.

    Returns:
        Lower and upper bound, each in [0, 1].
    """
    if n == 0:
        return 0.0, 1.0
    return score_interval_of(correct / n, n, NormalDist().inv_cdf((1 + level) / 2))


def score_interval_of(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Return the score interval of a proportion at any number of independent trials and any quantile.

    Args:
        share: the proportion that was observed, in [0, 1].
        n: number of independent trials that would give its variance, above 0; need not be whole.
        quantile: of the normal distribution, or of Student's t if the variance is an estimate.

    Returns:
        Lower and upper bound, each in [0, 1].
    """
    square = quantile**2 / n
    centre = (share + square / 2) / (1 + square)
    half = quantile * sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    # At the ends the bound is the end itself, which rounding would miss.
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return low, high
