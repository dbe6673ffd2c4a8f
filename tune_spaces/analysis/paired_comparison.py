"""One difference between two configurations, with all that a claim about it needs."""

import math
from dataclasses import dataclass, replace

from tune_spaces.analysis.noise_floor import is_shown

MCNEMAR, STUDENT = "exact McNemar", "Student's t"
ACCURACY, GAIN = "accuracy", "gain"


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """The difference a - b on the same items.

    Attributes:
        a, b: names of the two configurations.
        quantity: what is compared: `accuracy`, or `gain` over the target alone where accuracies have no common scale.
        n: number of items.
        clusters: number of independent groups of items; n if every item is one.
        runs: number of pairs of runs that were counted.
        accuracy_a, accuracy_b: mean accuracy of each, or mean gain.
        n10, n01: items that only a, or only b, solves; summed over pairs of runs if there are several; 0 for gains.
        difference: accuracy_a - accuracy_b.
        ci_low, ci_high: its 95 % interval.
        p: p-value of no difference.
        p_adjusted: p-value after the family's correction.
        test: the test from which p-value and interval come.
        detectable: smallest difference shown with 80 % power at this discordance or spread, at the correction's first
            step, or None if none could be.
        item_share: share of the squared error that more items would reduce; the rest is the seeds'.
        with_seeds: whether p-value and interval cover other seeds; False if they compare two trained runs as they are.
        margin: largest difference that counts as none, declared in the plan; None if none was.
        equivalent: whether two one-sided tests at the 5 % level, uncorrected, show a difference within the margin
            (Schuirmann 1987).
        comparisons: number of comparisons in its family.
        room_a, room_b: largest gain possible, the share of items that the target does not solve alone; None for
            accuracies.
        asked: whether its family is that of the plan's questions.
        floor: the noise floor, which a difference has to exceed; None if it is not known.
    """

    a: str
    b: str
    quantity: str = ACCURACY
    n: int
    clusters: int
    runs: int
    accuracy_a: float
    accuracy_b: float
    n10: int
    n01: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    p_adjusted: float
    test: str
    detectable: float | None
    with_seeds: bool = False
    margin: float | None = None
    equivalent: bool | None = None
    item_share: float = 1.0
    comparisons: int = 1
    room_a: float | None = None
    room_b: float | None = None
    asked: bool = False
    floor: float | None = None

    @property
    def largest(self) -> float:
        """Largest absolute difference that the interval does not exclude."""
        return max(abs(self.ci_low), abs(self.ci_high))

    @property
    def items_needed(self) -> int | None:
        """Items at which a true difference of the observed size would be shown with 80 % power.

        More items reduce the items' part of the squared error and leave the seeds'. None if there is no difference, or
        if no number of items reaches it with these seeds.
        """
        if self.detectable is None or self.difference == 0:
            return None
        allowed = (self.difference / self.detectable) ** 2 - (1 - self.item_share)
        return math.ceil(self.n * self.item_share / allowed) if allowed > 0 else None

    @property
    def shown(self) -> bool:
        """Whether the corrected test shows a difference at the 5 % level, which exceeds the noise floor."""
        return is_shown(self.difference, self.p_adjusted, self.floor)

    @property
    def within_floor(self) -> bool:
        """Whether the corrected test shows a difference that does not exceed the noise floor."""
        return not self.shown and is_shown(self.difference, self.p_adjusted, None)

    def turned(self) -> "PairedComparison":
        """Return the same comparison as b - a."""
        return replace(
            self,
            a=self.b,
            b=self.a,
            accuracy_a=self.accuracy_b,
            accuracy_b=self.accuracy_a,
            room_a=self.room_b,
            room_b=self.room_a,
            n10=self.n01,
            n01=self.n10,
            difference=-self.difference,
            ci_low=-self.ci_high,
            ci_high=-self.ci_low,
        )
