"""What the finished runs of `full` say about its accuracy, pooled over seeds without counting one item as several."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

from bridge_common import files
from bridge_common.errors import UserError
from bridge_common.intervals import score_interval_of, wilson
from bridge_common.trial_folder import TrialFolder
from tune_spaces.gate.outcome import BRIDGED, Outcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AGAIN = "restore it from a copy, or remove result.json beside it and resume the campaign, which evaluates it again"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known about an accuracy.

    Attributes:
        accuracy: the estimate.
        low, high: its confidence interval.
        n: number of test items on which it rests.
        effective_n: number of independent items that would give the same variance; above n if several seeds answered
            the same items, below it if items of one cluster are answered alike.
        quantile: of the normal distribution or of Student's t, with which the interval was taken.
        runs: number of runs that were pooled.
        clusters: number of independent groups of items; None if every item is one, or if it is not recorded.
    """

    accuracy: float
    low: float
    high: float
    n: int
    effective_n: float
    quantile: float
    runs: int = 1
    clusters: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Whether each test item was answered correctly, and its cluster, by the item's id."""

    correct: dict[str, bool]
    clusters: dict[str, str]


def pool(outcomes: Sequence[Outcome], level: float = 0.95, earlier: Evidence | None = None) -> Evidence:
    """Pool one or several runs of the same configuration into evidence about its accuracy.

    One run on independent items: its accuracy with Wilson's interval. Otherwise clusters of items are the sampling
    unit, each item with its mean over the runs that answered it; the variance of that mean gives an effective number of
    items, at which Wilson's interval is taken with Student's t (Korn & Graubard 1998). Seeds have no variance of their
    own in it: it says where the accuracy of these runs lies on more such items. If no samples were recorded, items
    count once however many runs answered them.

    A further run answers more and takes nothing away, so the effective number of items is never put below that of an
    earlier look, nor the quantile above it: at the same accuracy no further run widens the interval. Intervals of
    successive looks are not intersected, although that would narrow them: each speaks of the runs that it pools, which
    may differ from one another.

    Args:
        outcomes: how the runs ended; failed ones are left out.
        level: confidence level of the interval.
        earlier: what a look at fewer of these runs said, at the same level.

    Raises:
        ValueError: no run has finished.
    """
    runs = [outcome for outcome in outcomes if outcome.accuracy is not None]
    if not runs:
        raise ValueError("no finished run to judge")
    answers = [rows for outcome in runs if (rows := _answers(outcome))]
    if len(answers) == len(runs):
        return _by_item(answers, level, earlier)
    n = max(outcome.n or 0 for outcome in runs)
    accuracy = _mean_accuracy(runs)
    low, high = wilson(accuracy * n, n, level)
    quantile = NormalDist().inv_cdf((1 + level) / 2)
    return Evidence(accuracy=accuracy, low=low, high=high, n=n, effective_n=float(n), quantile=quantile, runs=len(runs))


def _answers(outcome: Outcome) -> _Answers | None:
    """Read which test items were answered correctly; None if the trial recorded no samples.

    Raises:
        UserError: the samples are damaged, or not as many as were scored.
    """
    path = TrialFolder(Path(outcome.folder)).samples if outcome.folder else None
    if path is None:
        return None
    stat = path.stat()
    answers = _read(path, stat.st_mtime_ns, stat.st_ino)
    if outcome.n and len(answers.correct) != outcome.n:  # cut off where a line ends
        raise UserError(f"{path} is damaged ({len(answers.correct)} of {outcome.n} items): {_AGAIN}")
    return answers


@lru_cache(maxsize=16)  # a policy decides anew at every poll, and samples hold long texts
def _read(path: Path, changed_ns: int, inode: int) -> _Answers:
    rows = files.read_jsonl(path, _AGAIN)
    return _Answers(
        correct={row["id"]: bool(row[f"{BRIDGED}_correct"]) for row in rows},
        clusters={row["id"]: str(row["cluster"]) for row in rows if row.get("cluster") not in (None, "")},
    )


def _mean_accuracy(runs: Sequence[Outcome]) -> float:
    if len(runs) == 1:
        return runs[0].accuracy or 0.0
    if all(outcome.correct is not None and outcome.n for outcome in runs):
        return sum(outcome.correct or 0 for outcome in runs) / sum(outcome.n or 0 for outcome in runs)
    return math.fsum(outcome.accuracy or 0.0 for outcome in runs) / len(runs)


def _by_item(answers: Sequence[_Answers], level: float, earlier: Evidence | None) -> Evidence:
    import numpy as np

    from tune_spaces.analysis.clustering import numbered

    correct: dict[str, int] = {}
    asked: dict[str, int] = {}
    named: dict[str, str] = {}
    for run in answers:
        named |= run.clusters
        for item, is_correct in run.correct.items():
            correct[item] = correct.get(item, 0) + is_correct
            asked[item] = asked.get(item, 0) + 1
    means = np.array([correct[item] / asked[item] for item in asked])
    # Counts instead of a mean of means if the two agree: 0.70 must come out as 0.70 at the boundary.
    balanced = len(set(asked.values())) == 1
    total = sum(asked.values())
    return evidence_of(
        means,
        accuracy=sum(correct.values()) / total if balanced else math.fsum(means) / len(means),
        answers=total,
        clusters=numbered([named.get(item, f"item {item}") for item in asked]),
        runs=len(answers),
        level=level,
        earlier=earlier,
    )


def evidence_of(
    means: "NDArray[np.float64]",
    *,
    accuracy: float,
    answers: int,
    clusters: "NDArray[np.int64] | None",
    runs: int,
    level: float,
    earlier: Evidence | None = None,
) -> Evidence:
    """Return what items say that one or several runs answered.

    Args:
        means: share of an item's answers that are correct, (items,).
        accuracy: the estimate.
        answers: number of answers, at least the items.
        clusters: number of each item's cluster from 0, (items,); None if items are independent.
        runs: number of runs.
        level: confidence level of the interval.
        earlier: what a look at fewer of these runs said (see `pool`).
    """
    import numpy as np
    from scipy.special import ndtri, stdtrit

    from tune_spaces.analysis.clustering import effective_items

    effective, freedom = effective_items(means, clusters, answers)
    quantile = float(stdtrit(freedom, (1 + level) / 2) if np.isfinite(freedom) else ndtri((1 + level) / 2))
    if earlier is not None:
        effective, quantile = max(effective, earlier.effective_n), min(quantile, earlier.quantile)
    low, high = score_interval_of(accuracy, effective, quantile)
    return Evidence(
        accuracy=accuracy,
        low=low,
        high=high,
        n=len(means),
        effective_n=effective,
        quantile=quantile,
        runs=runs,
        clusters=None if clusters is None else int(clusters.max()) + 1,
    )
