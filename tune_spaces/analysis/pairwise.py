"""Compare runs on the same items pair by pair: the numbers on which every claim of a difference rests.

A configuration is a matrix of correct answers, (seeds, items). Two single runs on independent items get the exact
McNemar test and the interval that belongs to it. If a configuration has several seeds, or items come in clusters,
p-value and interval come from Student's t over items, clusters and seeds, because such answers are not independent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge_common.intervals import wilson
from tune_spaces.analysis.clustering import Clusters
from tune_spaces.analysis.estimates import Cells, Estimate
from tune_spaces.analysis.item_alignment import align_items
from tune_spaces.analysis.noise_floor import LEVEL, NoiseFloor
from tune_spaces.analysis.paired_comparison import GAIN, MCNEMAR, STUDENT, PairedComparison
from tune_spaces.analysis.paired_tests import (
    Correction,
    adjust,
    discordant,
    mcnemar_exact,
    minimum_detectable_effect,
    paired_interval,
)
from tune_spaces.analysis.samples import Samples
from tune_spaces.analysis.verdicts import verdict

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
    floor: NoiseFloor | None = None,
    groups: Mapping[str, str] = MappingProxyType({}),
    family: int | None = None,
) -> list[PairedComparison]:
    """Compare pairs of configurations; all pairs together are one family for the correction.

    Args:
        cells: correct answers by name, (seeds, items), on the same items in the same order.
        pairs: names to compare, as (a, b).
        correction: `holm` for a declared family, `fdr_bh` for a sweep.
        clusters: number of each item's cluster, (items,); None if items are independent.
        gains: pairs of which gains are compared, with the cells of both baselines.
        margin: largest difference that counts as none, for the tests of equivalence.
        floor: the noise floor that a difference has to exceed, or None if it is not known.
        groups: group of each cell within which seeds vary alike (`Cells.of`).
        family: number of comparisons in the family if others on other items belong to it; `correct` then corrects all.
    """
    wanted, gains = list(pairs), gains or {}
    if not wanted:
        return []
    joint = Cells.of(cells, clusters, groups)
    alpha = LEVEL / (family or len(wanted))
    single = [pair for pair in wanted if pair not in gains and all(len(cells[name]) == 1 for name in pair)]
    exact = _exact(cells, single if joint.independent else [])
    raw = [
        _compare_gains(joint, cells, pair, gains[pair], alpha)
        if pair in gains
        else _compare(joint, cells, pair, exact.get(pair), alpha)
        for pair in wanted
    ]
    typical = None if floor is None else floor.typical
    judged = [
        replace(pair, floor=typical, margin=margin, equivalent=None if margin is None else _within(narrow, margin))
        for pair, narrow in raw
    ]
    return correct(judged, correction)


def correct(pairs: Sequence[PairedComparison], correction: Correction) -> list[PairedComparison]:
    """Return the comparisons with the p-values that they have as one family."""
    adjusted = adjust([pair.p for pair in pairs], correction)
    return [
        replace(pair, p_adjusted=p, comparisons=len(pairs))
        for pair, p in zip(pairs, adjusted, strict=True)
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
    return _student(common, effect, alpha), effect.interval(1 - 2 * LEVEL)


def _compare_gains(
    joint: Cells, cells: Mapping[str, Matrix], pair: tuple[str, str], baselines: tuple[str, str], alpha: float
) -> tuple[PairedComparison, tuple[float, float]]:
    """Return the comparison of two gains, and the 90 % interval of their difference."""
    gains = [float(cells[name].mean() - cells[baseline].mean()) for name, baseline in zip(pair, baselines, strict=True)]
    rooms = [1 - float(cells[baseline].mean()) for baseline in baselines]
    a, b = pair
    weights: dict[str, float] = {}
    for name, weight in ((a, 1.0), (baselines[0], -1.0), (b, -1.0), (baselines[1], 1.0)):
        weights[name] = weights.get(name, 0.0) + weight  # two variants may share their baseline
    effect = joint.contrast(weights)
    common = {
        **{"a": a, "b": b, "quantity": GAIN, "n": joint.items, "clusters": joint.groups},
        **{"runs": min(len(cells[a]), len(cells[b])), "accuracy_a": gains[0], "accuracy_b": gains[1]},
        **{"n10": 0, "n01": 0, "room_a": rooms[0], "room_b": rooms[1]},
    }
    return _student(common, effect, alpha), effect.interval(1 - 2 * LEVEL)


def _student(common: Mapping[str, Any], effect: Estimate, alpha: float) -> PairedComparison:
    return PairedComparison(
        **common,
        difference=effect.estimate,
        ci_low=effect.low,
        ci_high=effect.high,
        p=effect.p,
        p_adjusted=effect.p,
        test=STUDENT,
        detectable=effect.detectable(alpha),
        item_share=effect.item_share,
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
        verdict=[verdict(pair) for pair in pairs],
    )
