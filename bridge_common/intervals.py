"""The interval that stands beside every accuracy."""


def wilson(correct: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927; Brown, Cai & DasGupta 2001).

    Args:
        correct: number of successes.
        n: number of trials; 0 gives the whole range (0, 1), since nothing is known.
        level: confidence level.

    Returns:
        Lower and upper bound, each in [0, 1].
    """
    if n == 0:
        return 0.0, 1.0
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(correct, n, alpha=1 - level, method="wilson")
    return float(low), float(high)
