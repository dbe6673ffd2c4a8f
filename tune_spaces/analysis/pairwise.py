"""Compare runs on the same items pair by pair: the numbers on which every claim of a difference rests.

A configuration is a matrix of correct answers, (seeds, items). Two single runs get the exact McNemar test and the score
interval; as soon as one configuration has several seeds, p-value and interval come from the hierarchical bootstrap,
because answers of several seeds to one item are not independent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge_common.intervals import wilson
from tune_spaces.analysis.bootstrap import Means, bootstrap_means, contrast
from tune_spaces.analysis.item_alignment import align_items
from tune_spaces.analysis.paired_tests import (
    Correction,
    adjust,
    discordant,
    mcnemar_exact,
    minimum_detectable_effect,
    paired_interval,
)
from tune_spaces.analysis.samples import Samples

LEVEL = 0.05
MCNEMAR, BOOTSTRAP = "exact McNemar", "hierarchical bootstrap"
# From the half width of a 95 % interval to the difference seen with 80 % power: (1.960 + 0.842) / 1.960.
POWER_OVER_HALF_WIDTH = 1.429

Matrix = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Accuracy of one run with its 95 % interval; `invalid` counts items without an answer."""

    n: int
    correct: int
    accuracy: float
    ci_low: float
    ci_high: float
    invalid: int


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """The difference a - b on the same items.

    Attributes:
        a, b: names of the two configurations.
        n: number of items.
        runs: number of pairs of runs that were counted.
        accuracy_a, accuracy_b: mean accuracy of each.
        n10, n01: items that only a, or only b, solves; summed over pairs of runs if there are several.
        difference: accuracy_a - accuracy_b.
        ci_low, ci_high: its 95 % interval.
        p: p-value of no difference.
        p_adjusted: p-value after the family's correction.
        test: the test from which p-value and interval come.
        detectable: smallest difference shown with 80 % power at this discordance, or None if none could be.
    """

    a: str
    b: str
    n: int
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

    @property
    def shown(self) -> bool:
        """Whether the corrected test shows a difference at the 5 % level."""
        return self.p_adjusted < LEVEL


def matrix_of(runs: Sequence[Samples], condition: str = "bridged") -> Matrix:
    """Return the correct answers of aligned runs of one configuration, (seeds, items)."""
    return np.stack([run.conditions[condition].correct for run in runs])


def compare_pairs(
    cells: Mapping[str, Matrix],
    pairs: Iterable[tuple[str, str]],
    *,
    correction: Correction = "holm",
    draws: int = 4_000,
    seed: int = 0,
) -> list[PairedComparison]:
    """Compare pairs of configurations; all pairs together are one family for the correction.

    Args:
        cells: correct answers by name, (seeds, items), on the same items in the same order.
        pairs: names to compare, as (a, b).
        correction: `holm` for a declared family, `fdr_bh` for a sweep.
        draws: number of bootstrap draws, if a configuration has several seeds.
        seed: seed of those draws.
    """
    wanted = list(pairs)
    several = any(len(cells[name]) > 1 for pair in wanted for name in pair)
    means = bootstrap_means(list(cells.values()), draws=draws, seed=seed) if several else None
    alpha = LEVEL / max(1, len(wanted))
    exact = _exact(cells, [(a, b) for a, b in wanted if len(cells[a]) == len(cells[b]) == 1])
    raw = [_compare(cells, pair, exact.get(pair), means, alpha) for pair in wanted]
    adjusted = adjust([pair.p for pair in raw], correction)
    return [replace(pair, p_adjusted=p) for pair, p in zip(raw, adjusted, strict=True) if p is not None]


def _exact(
    cells: Mapping[str, Matrix], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return score interval (low, high) and McNemar's exact p-value of pairs of single runs, computed together."""
    if not pairs:
        return {}
    counts = np.array([discordant(cells[a][0], cells[b][0]) for a, b in pairs])  # (pairs, 2)
    n10, n01 = counts.T
    low, high = paired_interval(n10, n01, cells[pairs[0][0]].shape[1])
    p = mcnemar_exact(n10, n01)
    return dict(zip(pairs, zip(low.tolist(), high.tolist(), p.tolist(), strict=True), strict=True))


def _compare(
    cells: Mapping[str, Matrix],
    pair: tuple[str, str],
    exact: tuple[float, float, float] | None,
    means: Means | None,
    alpha: float,
) -> PairedComparison:
    a, b = pair
    first, second = cells[a], cells[b]
    counts = [discordant(x, y) for x, y in zip(first, second, strict=False)]
    n10, n01 = sum(x for x, _ in counts), sum(y for _, y in counts)
    n = first.shape[1]
    accuracy_a, accuracy_b = float(first.mean()), float(second.mean())
    if exact is not None:
        difference = (n10 - n01) / n  # without the rounding error of a subtraction
        (low, high, p), test = exact, MCNEMAR
        detectable = minimum_detectable_effect(n, (n10 + n01) / n, alpha=alpha)
    else:
        assert means is not None
        difference = accuracy_a - accuracy_b
        effect = contrast(means, [(name == a) - (name == b) for name in cells])
        low, high, p, test = effect.low, effect.high, effect.p, BOOTSTRAP
        detectable = POWER_OVER_HALF_WIDTH * (high - low) / 2
    return PairedComparison(
        a=a, b=b, n=n, runs=len(counts), accuracy_a=accuracy_a, accuracy_b=accuracy_b, n10=n10, n01=n01,
        difference=difference, ci_low=low, ci_high=high, p=p, p_adjusted=p, test=test,
        detectable=detectable,
    )  # fmt: skip


def summarise(samples: Samples, condition: str = "bridged") -> RunSummary:
    """Return the accuracy of one run under one condition, with its Wilson interval."""
    answers = samples.conditions[condition]
    correct = int(answers.correct.sum())
    low, high = wilson(correct, samples.n)
    return RunSummary(
        n=samples.n, correct=correct, accuracy=correct / samples.n, ci_low=low, ci_high=high, invalid=answers.invalid
    )


def points(value: float) -> str:
    """Return a difference of accuracies in percentage points, signed."""
    return f"{100 * value:+.1f}"


def verdict(pair: PairedComparison, comparisons: int = 1) -> str:
    """Word a pair in one sentence: what was shown, or that nothing was and what could have been.

    Args:
        pair: the comparison.
        comparisons: number of comparisons in its family.
    """
    adjusted = f", {pair.p_adjusted:.3g} after correction for {comparisons} comparisons" if comparisons > 1 else ""
    figures = (
        f"{100 * pair.accuracy_a:.1f} % against {100 * pair.accuracy_b:.1f} %, difference {points(pair.difference)} "
        f"points, 95 % interval [{points(pair.ci_low)}, {points(pair.ci_high)}], {pair.n10} : {pair.n01} discordant, "
        f"{pair.test} p = {pair.p:.3g}{adjusted}, n = {pair.n}"
    )
    if pair.shown:
        better, worse = (pair.a, pair.b) if pair.difference > 0 else (pair.b, pair.a)
        return f"{pair.a} against {pair.b}: {better} is more accurate than {worse} on these items ({figures})."
    if pair.detectable is None:
        could = f"{pair.n} items are too few to show any difference"
    else:
        could = (
            f"at this rate of discordance, {pair.n} items could have shown a difference of "
            f"{100 * pair.detectable:.1f} points or more with 80 % power"
        )
    return f"{pair.a} against {pair.b}: no difference was shown ({figures}); {could}."


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every run, every pair of runs, and a sentence per pair."""

    runs: dict[str, RunSummary]
    pairs: list[PairedComparison]
    verdict: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return the object that `appendix --json` prints."""
        columns = ("a", "b", "n10", "n01", "difference", "ci_low", "ci_high", "p", "p_adjusted")
        pairs = [{name: getattr(pair, name) for name in columns} for pair in self.pairs]
        return {
            "runs": {name: asdict(run) for name, run in self.runs.items()},
            "pairs": [{("p_mcnemar" if k == "p" else k): v for k, v in pair.items()} for pair in pairs],
            "verdict": self.verdict,
        }


def compare_runs(samples: Mapping[str, Samples]) -> Comparison:
    """Compare single runs with one another, all pairs, corrected by Holm.

    Raises:
        UserError: the runs are not on the same items.
    """
    aligned = align_items(samples)
    pairs = compare_pairs({name: matrix_of([run]) for name, run in aligned.items()}, combinations(aligned, 2))
    return Comparison(
        runs={name: summarise(run) for name, run in aligned.items()},
        pairs=pairs,
        verdict=[verdict(pair, len(pairs)) for pair in pairs],
    )
