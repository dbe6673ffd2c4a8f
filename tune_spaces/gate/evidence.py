"""What the finished runs of `full` say about its accuracy, pooled over seeds without counting one item as several."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge_common import files
from bridge_common.intervals import wilson
from bridge_common.trial_folder import TrialFolder
from tune_spaces.gate.outcome import BRIDGED, Outcome


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known about an accuracy.

    Attributes:
        accuracy: the estimate.
        low, high: its confidence interval.
        n: number of test items on which it rests.
        effective_n: number of independent items that would give the same interval; above n if several seeds answered
            the same items.
        runs: number of runs that were pooled.
    """

    accuracy: float
    low: float
    high: float
    n: int
    effective_n: float
    runs: int = 1


def pool(outcomes: Sequence[Outcome], level: float = 0.95) -> Evidence:
    """Pool one or several runs of the same configuration into evidence about its accuracy.

    One run: its accuracy with Wilson's interval. Several: items are the sampling unit, each with its mean over the
    runs that answered it; the variance of that mean gives an effective number of items, at which Wilson's interval is
    taken (Korn & Graubard 1998). If no samples were recorded, items count once however many runs answered them.

    Args:
        outcomes: how the runs ended; failed ones are left out.
        level: confidence level of the interval.

    Raises:
        ValueError: no run has finished.
    """
    runs = [outcome for outcome in outcomes if outcome.accuracy is not None]
    if not runs:
        raise ValueError("no finished run to judge")
    if len(runs) == 1:
        return _single(runs[0], level)
    answers = [rows for outcome in runs if (rows := _correct_by_item(outcome))]
    if len(answers) == len(runs):
        return _by_item(answers, level)
    n = max(outcome.n or 0 for outcome in runs)
    return _evidence(_mean_accuracy(runs), n, float(n), len(runs), level)


def _correct_by_item(outcome: Outcome) -> dict[str, bool] | None:
    """Read whether each test item, by its id, was answered correctly; None if the trial recorded no samples."""
    path = TrialFolder(Path(outcome.folder)).samples if outcome.folder else None
    if path is None:
        return None
    return {row["id"]: bool(row[f"{BRIDGED}_correct"]) for row in files.read_jsonl(path)}


def _mean_accuracy(runs: Sequence[Outcome]) -> float:
    if all(outcome.correct is not None and outcome.n for outcome in runs):
        return sum(outcome.correct or 0 for outcome in runs) / sum(outcome.n or 0 for outcome in runs)
    return math.fsum(outcome.accuracy or 0.0 for outcome in runs) / len(runs)


def _single(outcome: Outcome, level: float) -> Evidence:
    assert outcome.accuracy is not None
    n = outcome.n or 0
    return _evidence(outcome.accuracy, n, float(n), 1, level)


def _by_item(answers: Sequence[dict[str, bool]], level: float) -> Evidence:
    correct: dict[str, int] = {}
    asked: dict[str, int] = {}
    for rows in answers:
        for item, is_correct in rows.items():
            correct[item] = correct.get(item, 0) + is_correct
            asked[item] = asked.get(item, 0) + 1
    n = len(asked)
    balanced = len(set(asked.values())) == 1
    means = [correct[item] / asked[item] for item in asked]
    # Counts instead of a mean of means if the two agree: 0.70 must come out as 0.70 at the boundary.
    accuracy = sum(correct.values()) / sum(asked.values()) if balanced else math.fsum(means) / n
    variance = math.fsum((mean - accuracy) ** 2 for mean in means) / max(1, n - 1) / n
    binomial = accuracy * (1 - accuracy)
    effective = binomial / variance if variance > 0 and binomial > 0 else float(n)
    return _evidence(accuracy, n, min(max(effective, n), sum(asked.values())), len(answers), level)


def _evidence(accuracy: float, n: int, effective: float, runs: int, level: float) -> Evidence:
    low, high = wilson(accuracy * effective, effective, level) if effective else (0.0, 1.0)
    return Evidence(accuracy=accuracy, low=low, high=high, n=n, effective_n=effective, runs=runs)
