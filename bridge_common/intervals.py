"""The confidence interval that is reported with every accuracy."""


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
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(correct, n, alpha=1 - level, method="wilson")
    return float(low), float(high)
