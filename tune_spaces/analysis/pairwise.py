"""Compare runs on the same items pair by pair: the numbers on which every claim of a difference rests.

A configuration is a matrix of correct answers, (seeds, items). Two single runs on independent items get the exact
McNemar test and the interval that belongs to it. If a configuration has several seeds, or items come in clusters,
p-value and interval come from Student's t over items, clusters and seeds, because such answers are not independent.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge_common.intervals import wilson
from tune_spaces.analysis.estimates import Cells, Clusters, Estimate
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
MCNEMAR, STUDENT = "exact McNemar", "Student's t"
ACCURACY, GAIN = "accuracy", "gain"
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
        detectable: smallest difference shown with 80 % power at this discordance, or None if none could be.
        with_seeds: whether p-value and interval cover other seeds; False if they compare two trained runs as they are.
        margin: largest difference that counts as none, declared in the plan; None if none was.
        equivalent: whether two one-sided tests at the 5 % level show a difference within the margin (Schuirmann 1987).
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

    @property
    def largest(self) -> float:
        """Largest absolute difference that the interval does not exclude."""
        return max(abs(self.ci_low), abs(self.ci_high))

    @property
    def items_needed(self) -> int | None:
        """Items at which a true difference of the observed size would be shown with 80 % power; None without one."""
        if self.detectable is None or self.difference == 0:
            return None
        return math.ceil(self.n * (self.detectable / abs(self.difference)) ** 2)

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
    clusters: Clusters | None = None,
    gains: Mapping[tuple[str, str], tuple[str, str]] | None = None,
    margin: float | None = None,
) -> list[PairedComparison]:
    """Compare pairs of configurations; all pairs together are one family for the correction.

    Args:
        cells: correct answers by name, (seeds, items), on the same items in the same order.
        pairs: names to compare, as (a, b).
        correction: `holm` for a declared family, `fdr_bh` for a sweep.
        clusters: number of each item's cluster, (items,); None if items are independent.
        gains: pairs of which gains are compared, with the cells of both baselines.
        margin: largest difference that counts as none, for the tests of equivalence.
    """
    wanted, gains = list(pairs), gains or {}
    if not wanted:
        return []
    joint = Cells.of(cells, clusters)
    alpha = LEVEL / len(wanted)
    single = [pair for pair in wanted if pair not in gains and all(len(cells[name]) == 1 for name in pair)]
    exact = _exact(cells, single if joint.independent else [])
    raw = [
        _compare_gains(joint, cells, pair, gains[pair])
        if pair in gains
        else _compare(joint, cells, pair, exact.get(pair), alpha)
        for pair in wanted
    ]
    adjusted = adjust([pair.p for pair, _ in raw], correction)
    return [
        replace(pair, p_adjusted=p, margin=margin, equivalent=None if margin is None else _within(narrow, margin))
        for (pair, narrow), p in zip(raw, adjusted, strict=True)
        if p is not None
    ]


def _within(interval: tuple[float, float], margin: float) -> bool:
    return -margin < interval[0] and interval[1] < margin


@dataclass(frozen=True, kw_only=True)
class _Exact:
    """Interval, 90 % interval and p-value of a pair of single runs."""

    low: float
    high: float
    narrow: tuple[float, float]
    p: float


def _exact(cells: Mapping[str, Matrix], pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], _Exact]:
    """Return intervals and McNemar's exact p-value of pairs of single runs, computed together."""
    if not pairs:
        return {}
    counts = np.array([discordant(cells[a][0], cells[b][0]) for a, b in pairs])  # (pairs, 2)
    n10, n01 = counts.T
    n = cells[pairs[0][0]].shape[1]
    columns = (
        *paired_interval(n10, n01, n),
        *paired_interval(n10, n01, n, 1 - 2 * LEVEL),
        mcnemar_exact(n10, n01),
    )
    return {
        pair: _Exact(low=low, high=high, narrow=(inner_low, inner_high), p=p)
        for pair, low, high, inner_low, inner_high, p in zip(pairs, *(c.tolist() for c in columns), strict=True)
    }


def _compare(
    joint: Cells, cells: Mapping[str, Matrix], pair: tuple[str, str], exact: _Exact | None, alpha: float
) -> tuple[PairedComparison, tuple[float, float]]:
    """Return the comparison of two accuracies, and the 90 % interval of their difference."""
    a, b = pair
    first, second = cells[a], cells[b]
    counts = [discordant(x, y) for x, y in zip(first, second, strict=False)]
    n10, n01 = sum(x for x, _ in counts), sum(y for _, y in counts)
    n = first.shape[1]
    common: dict[str, Any] = {
        **{"a": a, "b": b, "n": n, "clusters": joint.groups, "runs": len(counts), "n10": n10, "n01": n01},
        **{"accuracy_a": float(first.mean()), "accuracy_b": float(second.mean())},
    }
    if exact is not None:
        comparison = PairedComparison(
            **common,
            difference=(n10 - n01) / n,  # without the rounding error of a subtraction
            ci_low=exact.low,
            ci_high=exact.high,
            p=exact.p,
            p_adjusted=exact.p,
            test=MCNEMAR,
            detectable=minimum_detectable_effect(n, (n10 + n01) / n, alpha=alpha),
        )
        return comparison, exact.narrow
    effect = joint.contrast({a: 1.0, b: -1.0})
    return _student(common, effect), effect.interval(1 - 2 * LEVEL)


def _compare_gains(
    joint: Cells, cells: Mapping[str, Matrix], pair: tuple[str, str], baselines: tuple[str, str]
) -> tuple[PairedComparison, tuple[float, float]]:
    """Return the comparison of two gains, and the 90 % interval of their difference."""
    gains = [float(cells[name].mean() - cells[baseline].mean()) for name, baseline in zip(pair, baselines, strict=True)]
    a, b = pair
    weights: dict[str, float] = {}
    for name, weight in ((a, 1.0), (baselines[0], -1.0), (b, -1.0), (baselines[1], 1.0)):
        weights[name] = weights.get(name, 0.0) + weight  # two variants may share their baseline
    effect = joint.contrast(weights)
    common = {
        **{"a": a, "b": b, "quantity": GAIN, "n": joint.items, "clusters": joint.groups},
        **{"runs": min(len(cells[a]), len(cells[b])), "accuracy_a": gains[0], "accuracy_b": gains[1]},
        **{"n10": 0, "n01": 0},
    }
    return _student(common, effect), effect.interval(1 - 2 * LEVEL)


def _student(common: Mapping[str, Any], effect: Estimate) -> PairedComparison:
    return PairedComparison(
        **common,
        difference=effect.estimate,
        ci_low=effect.low,
        ci_high=effect.high,
        p=effect.p,
        p_adjusted=effect.p,
        test=STUDENT,
        detectable=POWER_OVER_HALF_WIDTH * (effect.high - effect.low) / 2,
        with_seeds=effect.with_seeds,
    )


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
    """Word a pair in one sentence: what was shown, or that nothing was and what is excluded.

    Args:
        pair: the comparison.
        comparisons: number of comparisons in its family.
    """
    adjusted = f", {pair.p_adjusted:.3g} after correction for {comparisons} comparisons" if comparisons > 1 else ""
    counts = "" if pair.quantity == GAIN else f"{pair.n10} : {pair.n01} discordant, "
    grouped = "" if pair.clusters == pair.n else f" in {pair.clusters} clusters"
    figures = (
        f"{_level(pair, pair.accuracy_a)} against {_level(pair, pair.accuracy_b)}, difference "
        f"{points(pair.difference)} points, 95 % interval [{points(pair.ci_low)}, {points(pair.ci_high)}], {counts}"
        f"{pair.test} p = {pair.p:.3g}{adjusted}, n = {pair.n}{grouped}"
    )
    start = f"{pair.a} against {pair.b}"
    if pair.quantity == GAIN:
        start += " (gains over the target alone, since the two answer with other models)"
    if pair.shown:
        better, worse = (pair.a, pair.b) if pair.difference > 0 else (pair.b, pair.a)
        more = "gains more" if pair.quantity == GAIN else "is more accurate"
        return f"{start}: {better} {more} than {worse} on these items ({figures})."
    return f"{start}: no difference was shown ({figures}); {'; '.join(_excluded(pair))}."


def _level(pair: PairedComparison, value: float) -> str:
    return f"{points(value)} points" if pair.quantity == GAIN else f"{100 * value:.1f} %"


def _excluded(pair: PairedComparison) -> list[str]:
    """Say what a comparison that showed nothing excludes, and what it would have taken to show something."""
    parts = [f"differences beyond {100 * pair.largest:.1f} points are excluded"]
    if pair.margin is not None:
        margin = f"the declared margin of {100 * pair.margin:.1f} points"
        parts.append(
            f"equivalent within {margin}" if pair.equivalent else f"not shown to be equivalent within {margin}"
        )
    if pair.detectable is None:
        parts.append(f"{pair.n} items are too few to show any difference")
        return parts
    rate = "with this spread" if pair.quantity == GAIN else "at this rate of discordance"
    parts.append(
        f"{rate}, {pair.n} items could have shown a difference of {100 * pair.detectable:.1f} points or more with "
        "80 % power"
    )
    if pair.items_needed is not None and pair.items_needed > pair.n:
        parts.append(f"one of {100 * abs(pair.difference):.1f} points would need about {pair.items_needed} items")
    return parts


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
