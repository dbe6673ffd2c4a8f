"""What the finished runs of `full` say about its accuracy, pooled over seeds without counting an item twice as two."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge_common import files
from bridge_common.intervals import wilson
from bridge_common.trial_folder import TrialFolder

BRIDGED = "bridged"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known about an accuracy.

    Attributes:
        accuracy: the estimate.
        low, high: its interval.
        n: test items it rests on.
        effective_n: independent items that would carry as much; above n where several seeds answered the same items.
        runs: how many runs it was pooled from.
    """

    accuracy: float
    low: float
    high: float
    n: int
    effective_n: float
    runs: int = 1

    @classmethod
    def of_counts(cls, correct: int, n: int, level: float = 0.95) -> "Evidence":
        """Evidence of one run, with Wilson's interval."""
        low, high = wilson(correct, n, level)
        return cls(accuracy=correct / n if n else 0.0, low=low, high=high, n=n, effective_n=n)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended.

    Attributes:
        accuracy: of the bridged condition; None where the trial failed.
        correct, n: its counts; None where the job reported none.
        folder: the trial's folder, with `samples.jsonl` where the job wrote one.
        node_id: the Ray node that it ran on.
    """

    accuracy: float | None
    correct: int | None = None
    n: int | None = None
    folder: str = ""
    node_id: str | None = None

    @property
    def failed(self) -> bool:
        """Whether there is no accuracy."""
        return self.accuracy is None


def items(outcome: Outcome) -> dict[str, bool] | None:
    """Correctness of each test item by its id, or None where the trial recorded no samples."""
    path = TrialFolder(Path(outcome.folder)).samples if outcome.folder else None
    if path is None:
        return None
    return {row["id"]: bool(row[f"{BRIDGED}_correct"]) for row in files.read_jsonl(path)}


def pool(outcomes: Sequence[Outcome], level: float = 0.95) -> Evidence:
    """Evidence about one accuracy from one or several runs of the same configuration.

    One run: its accuracy with Wilson's interval. Several: items are the sampling unit, each with its mean over the
    runs that answered it; the variance of that mean gives an effective number of items, at which Wilson's interval is
    taken (Korn & Graubard 1998). Where no samples were recorded, items count once however many runs answered them.
    """
    runs = [outcome for outcome in outcomes if outcome.accuracy is not None]
    if not runs:
        raise ValueError("no finished run to judge")
    if len(runs) == 1:
        return _single(runs[0], level)
    answered = [items(outcome) for outcome in runs]
    known = [rows for rows in answered if rows]
    if len(known) == len(runs):
        return _by_item(known, level)
    accuracy = _mean(runs)
    n = max(outcome.n or 0 for outcome in runs)
    return _evidence(accuracy, n, float(n), len(runs), level)


def _mean(runs: Sequence[Outcome]) -> float:
    if all(outcome.correct is not None and outcome.n for outcome in runs):
        return sum(outcome.correct or 0 for outcome in runs) / sum(outcome.n or 0 for outcome in runs)
    return math.fsum(outcome.accuracy or 0.0 for outcome in runs) / len(runs)


def _single(outcome: Outcome, level: float) -> Evidence:
    assert outcome.accuracy is not None
    n = outcome.n or 0
    return _evidence(outcome.accuracy, n, float(n), 1, level)


def _by_item(answered: Sequence[dict[str, bool]], level: float) -> Evidence:
    right: dict[str, int] = {}
    asked: dict[str, int] = {}
    for rows in answered:
        for name, correct in rows.items():
            right[name] = right.get(name, 0) + correct
            asked[name] = asked.get(name, 0) + 1
    n = len(asked)
    even = len(set(asked.values())) == 1
    means = [right[name] / asked[name] for name in asked]
    # Counts, not a mean of means, where they agree: 0.70 must come out as 0.70 at the boundary.
    accuracy = sum(right.values()) / sum(asked.values()) if even else math.fsum(means) / n
    variance = math.fsum((mean - accuracy) ** 2 for mean in means) / max(1, n - 1) / n
    binomial = accuracy * (1 - accuracy)
    effective = binomial / variance if variance > 0 and binomial > 0 else float(n)
    return _evidence(accuracy, n, min(max(effective, n), sum(asked.values())), len(answered), level)


def _evidence(accuracy: float, n: int, effective: float, runs: int, level: float) -> Evidence:
    low, high = wilson(accuracy * effective, effective, level) if effective else (0.0, 1.0)
    return Evidence(accuracy=accuracy, low=low, high=high, n=n, effective_n=effective, runs=runs)
