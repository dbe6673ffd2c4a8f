"""Accuracy by groups of items that the task names, such as MATH's level and subject, or HotpotQA's type."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_spaces.analysis.estimates import Cells
from tune_spaces.analysis.scored_trials import ScoredTrial, Trials, matrix

ALONE = "target_alone"
LEAST = 2  # items of a group, below which there is no interval


def group_rows(trials: Trials) -> list[dict[str, Any]]:
    """Return one row for each variant and value of a group, on the variant's own items.

    Trials on other items than the reference's, such as those of another task, are included: a row compares a variant
    with its own target alone, never with another variant. Intervals are not corrected.

    Returns:
        Rows of variant, group, value, runs, n, accuracy with its interval, and `alone`, `gain`, `gain_low` and
        `gain_high`; what was not measured, or cannot be known, is None.
    """
    names = dict.fromkeys(trial.variant for trial in (*trials.compared, *trials.apart))
    rows = []
    for name in names:
        own = trials.on_own_items(name)
        if own is not None:
            runs = own.variants()[name]
            groups = runs[0].samples.groups
            rows += [_row(name, runs, group, value, np.array(values) == value, own.clusters())
                     for group, values in groups.items() for value in sorted(set(values), key=_by_number)]  # fmt: skip
    return rows


def _by_number(value: str) -> tuple[float, str]:
    """Return a key that sorts values with a number by it, as `Level 2` before `Level 10`."""
    digits = "".join(c for c in value if c.isdecimal())
    return (float(digits) if digits else 0.0, value)


def _row(
    variant: str,
    runs: list[ScoredTrial],
    group: str,
    value: str,
    inside: NDArray[np.bool_],
    clusters: NDArray[np.int64] | None,
) -> dict[str, Any]:
    cells = {"bridged": matrix(runs)[:, inside]}
    if all(ALONE in run.samples.conditions for run in runs):
        cells[ALONE] = matrix(runs, ALONE)[:, inside]
    n = int(inside.sum())
    row: dict[str, Any] = {"variant": variant, "group": group, "value": value, "runs": len(runs), "n": n}
    row |= {"accuracy": float(cells["bridged"].mean()), "low": None, "high": None}
    row |= {"alone": float(cells[ALONE].mean()) if ALONE in cells else None}
    row |= dict.fromkeys(("gain", "gain_low", "gain_high"))
    if ALONE in cells:
        row["gain"] = row["accuracy"] - row["alone"]
    some = None if clusters is None else clusters[inside]
    if n >= LEAST and (some is None or len(set(some.tolist())) >= LEAST):
        joint = Cells.of(cells, some, {name: name for name in cells})
        row["low"], row["high"] = joint.accuracy("bridged")
        if ALONE in cells:
            gain = joint.contrast({"bridged": 1.0, ALONE: -1.0})
            row["gain_low"], row["gain_high"] = gain.low, gain.high
    return row
