"""How far runs of one configuration differ by chance, and the one rule on what counts as shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """How far runs of one configuration differ by chance alone.

    Attributes:
        typical: difference that two runs of one configuration typically have, which an effect has to exceed: the root
            of their mean squared difference, √2 times `deviation`. More replicates make it better known, not larger.
        largest: largest absolute difference between two replicates that ran; it grows with their number.
        deviation: pooled standard deviation of one run around its configuration.
        pairs: number of pairs of replicates.
        degrees_of_freedom: those of `deviation`; with 1 it is hardly known.
    """

    typical: float
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
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups)
    deviation = float(np.sqrt(squares / freedom))
    return NoiseFloor(
        typical=float(np.sqrt(2)) * deviation,
        largest=max(float(np.ptp(group)) for group in groups),
        deviation=deviation,
        pairs=sum(len(group) * (len(group) - 1) // 2 for group in groups),
        degrees_of_freedom=freedom,
    )


def is_shown(difference: float | None, p_adjusted: float | None, floor: float | None) -> bool:
    """Return whether a difference counts as shown: in answers, claims, tables, plots and effects alike.

    Args:
        difference: of accuracies or gains; None if it was not run.
        p_adjusted: its p-value after its family's correction.
        floor: the typical difference of replicates, which this one has to exceed, or None if it is not known.
    """
    if difference is None or p_adjusted is None or p_adjusted >= LEVEL:
        return False
    return floor is None or abs(difference) > floor
