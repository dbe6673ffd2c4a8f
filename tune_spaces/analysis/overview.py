"""One row a variant: accuracy, gain over the target alone, and difference to the reference.

The appendix, a campaign's card and the table at a campaign's end all show these rows.
"""

from dataclasses import dataclass

from tune_spaces.analysis.analyse import Appendix
from tune_spaces.analysis.paired_comparison import GAIN, PairedComparison
from tune_spaces.analysis.variant_pairs import BASELINE


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of accuracies, or of gains, as a fraction.

    Attributes:
        estimate: the difference, with its 95 % interval from `low` to `high`.
        shown: whether the corrected test shows it and it exceeds the noise floor.
        of_gains: whether gains over the target alone are compared, since accuracies have no common scale.
    """

    estimate: float
    low: float
    high: float
    shown: bool
    of_gains: bool = False

    @classmethod
    def of(cls, pair: PairedComparison, subtracted: str) -> "Difference":
        """Return the difference of a pair's other configuration minus the one that is subtracted."""
        common = {"shown": pair.shown, "of_gains": pair.quantity == GAIN}
        if pair.b == subtracted:
            return cls(estimate=pair.difference, low=pair.ci_low, high=pair.ci_high, **common)
        return cls(estimate=-pair.difference, low=-pair.ci_high, high=-pair.ci_low, **common)


@dataclass(frozen=True, kw_only=True)
class VariantSummary:
    """What a variant achieved.

    Attributes:
        variant: its name.
        runs: number of its runs on the reference's items.
        accuracy: bridged accuracy, with its 95 % interval from `low` to `high`.
        gain: over the target alone, or None if that was not evaluated.
        difference: to the reference, or None for the reference itself and for a variant that was not compared with it.
    """

    variant: str
    runs: int
    accuracy: float
    low: float
    high: float
    gain: Difference | None
    difference: Difference | None


def overview(appendix: Appendix) -> list[VariantSummary]:
    """Return one row a variant, the reference first; controls and contexts, which are no variants, are left out."""
    reference, beside = appendix.trials.reference, {*appendix.controls.names, *appendix.controls.twins}
    gains = {pair.a: Difference.of(pair, BASELINE) for pair in appendix.gains if pair.b == BASELINE}
    differences = {
        pair.b if pair.a == reference else pair.a: Difference.of(pair, reference)
        for pair in appendix.pairs
        if reference in (pair.a, pair.b)
    }
    return [
        VariantSummary(
            variant=row["variant"],
            runs=row["runs"],
            accuracy=row["accuracy"],
            low=row["low"],
            high=row["high"],
            gain=gains.get(row["variant"]),
            difference=differences.get(row["variant"]),
        )
        for row in appendix.outcomes
        if row["condition"] == "bridged" and row["variant"] not in beside
    ]
