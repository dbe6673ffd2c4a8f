"""Costs beside accuracy: one row for each variant and condition, and which of them no other one beats in both.

Where source, target or task differ, accuracies have no common scale: such rows do not beat one another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bridge_common.metric_names import BRIDGE_BYTES, BRIDGE_PARAMETERS, cost
from tune_spaces.analysis.scored_trials import ScoredTrial, comparable

FLOPS = "flops"
QUANTITIES = (
    "prefill_tokens",
    "cached_tokens",
    "decoded_tokens",
    FLOPS,
    "source_flops",
    "target_flops",
    "bridge_flops",
    "passed_bytes",
    "state_bytes",
    "kv_bytes",
    "seconds",
)
"""What a question takes, as metrics name it: `cost/QUANTITY/CONDITION`. All but the last are counted."""


def cost_rows(
    variants: Mapping[str, Sequence[ScoredTrial]], outcomes: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the outcomes whose costs were recorded, with each cost's mean over the runs that have it.

    Args:
        variants: trials by variant.
        outcomes: accuracy by variant and condition.

    Returns:
        Rows of variant, condition, accuracy with its interval, each of `QUANTITIES` (None if no run has it), the
        bridge's parameters and bytes, `setting`, a number that rows of one source, target and task have in common, and
        `efficient`: whether no other row of the setting is as accurate with fewer FLOPs, or more accurate with as many;
        False if FLOPs are not known.
    """
    rows = []
    settings: dict[tuple[Any, ...], int] = {}
    for outcome in outcomes:
        trials = variants[outcome["variant"]]
        costs = {name: _mean(trials, cost(name, outcome["condition"])) for name in QUANTITIES}
        if all(value is None for value in costs.values()):
            continue
        kept = {name: outcome[name] for name in ("variant", "condition", "accuracy", "low", "high")}
        bridge = {"bridge_parameters": _mean(trials, BRIDGE_PARAMETERS), "bridge_bytes": _mean(trials, BRIDGE_BYTES)}
        setting = settings.setdefault(comparable(trials[0]), len(settings))
        rows.append({**kept, **costs, **bridge, "setting": setting})
    return [{**row, "efficient": row[FLOPS] is not None and not _beaten(row, rows)} for row in rows]


def _mean(trials: Sequence[ScoredTrial], name: str) -> float | None:
    values = [trial.costs[name] for trial in trials if name in trial.costs]
    return sum(values) / len(values) if values else None


def _beaten(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(other["setting"] == row["setting"] and _beats(other, row) for other in rows)


def _beats(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Return whether a is at least as accurate as b for at most its FLOPs, and better in one of the two."""
    if a[FLOPS] is None:
        return False
    better = a["accuracy"] > b["accuracy"] or a[FLOPS] < b[FLOPS]
    return bool(a["accuracy"] >= b["accuracy"] and a[FLOPS] <= b[FLOPS] and better)
