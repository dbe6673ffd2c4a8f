"""Compare variants with one another: their accuracies, their gains, or nothing."""

from collections.abc import Sequence

from tune_spaces.analysis.noise_floor import NoiseFloor
from tune_spaces.analysis.paired_comparison import PairedComparison
from tune_spaces.analysis.paired_tests import Correction
from tune_spaces.analysis.pairwise import compare_pairs
from tune_spaces.analysis.scored_trials import Trials, matrix

BASELINE = "target_alone"


def compare_variants(
    trials: Trials,
    wanted: Sequence[tuple[str, str]],
    *,
    correction: Correction = "holm",
    margin: float | None = None,
    floor: NoiseFloor | None = None,
    family: int | None = None,
) -> list[PairedComparison]:
    """Compare variants: accuracies of those that answer with the same models, gains of the others, or nothing.

    Where source or target differs, accuracies have no common scale: another target solves other items by itself. Pairs
    with a variant that did not run on the reference's items are left out.

    Args:
        trials: the trials. A variant with one seed has the pooled variance of the seeds of all others.
        wanted: names of variants to compare, as (a, b).
        correction: of the family.
        margin: largest difference that counts as none, if the plan declared one.
        floor: the noise floor, or None if it is not known.
        family: number of comparisons in the family, if not all are wanted here.
    """
    variants = trials.variants()
    cells = {name: matrix(group) for name, group in variants.items()}
    gains: dict[tuple[str, str], tuple[str, str]] = {}
    possible = []
    for a, b in wanted:
        if not {a, b} <= set(variants):
            continue
        if trials.same_setting(a, b):
            possible.append((a, b))
        elif all(BASELINE in trial.samples.conditions for name in (a, b) for trial in variants[name]):
            gains[a, b] = (f"{a}\n{BASELINE}", f"{b}\n{BASELINE}")
            possible.append((a, b))
    baselines = {f"{name}\n{BASELINE}": name for pair in gains for name in pair}
    cells |= {cell: matrix(variants[name], BASELINE) for cell, name in baselines.items()}
    return compare_pairs(
        cells,
        possible,
        correction=correction,
        clusters=trials.clusters(),
        gains=gains,
        margin=margin,
        floor=floor,
        groups=dict.fromkeys(baselines, BASELINE),
        family=family,
    )
