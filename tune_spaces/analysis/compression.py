"""Accuracy at K tokens: soft tokens beside text of as many tokens, with what the target then holds of its prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bridge_common.metric_names import BUDGETED
from tune_spaces.analysis.estimates import Cells

ALONE = "target_alone"
WITH_PROMPT, INSTEAD = "soft_plus_text", "soft_only"
WAYS = {
    WITH_PROMPT: "soft tokens and the prompt",
    INSTEAD: "soft tokens instead of the prompt",
    BUDGETED[0]: "the question cut",
    BUDGETED[1]: "the source's summary",
    BUDGETED[2]: "the prompt and the source's answer, cut",
    ALONE: "the whole prompt",
}
"""What the target reads, by name; K is the number of soft tokens, or of the text's tokens."""
QUANTITIES = ("prompt_kv_bytes", "seconds", "answer_seconds", "flops", "passed_bytes")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Runs in which the target read K tokens in one way.

    Attributes:
        way: one of `WAYS`.
        tokens: K; None for the whole prompt.
        correct: correct answers, (runs, items).
        costs: means over the runs, by quantity; what is not known is left out.
    """

    way: str
    tokens: int | None
    correct: NDArray[np.bool_]
    costs: Mapping[str, float] = field(default_factory=dict)


def compression_rows(
    measured: Sequence[Measured], prompt_tokens: float | None, clusters: ArrayLike | None = None
) -> list[dict[str, Any]]:
    """Return one row for each way and K, in their order.

    Args:
        measured: on the same items.
        prompt_tokens: mean length of the target's whole prompt; None if it is not known.
        clusters: a number for each item, or None.

    Returns:
        Rows of way, tokens, runs, n, clusters, accuracy with its interval, `share` (K over the prompt's tokens), `held`
        (what the target holds of its prompt over the whole prompt), each cost (None if it is not known), `saved_bytes`
        (of the whole prompt's keys and values; negative if the target holds more), and `efficient`: whether no other
        row is as accurate with fewer bytes of keys and values, or more accurate with as many.
    """
    if not measured:
        return []
    cells = Cells.of(
        {str(i): one.correct for i, one in enumerate(measured)},
        clusters,
        {str(i): one.way for i, one in enumerate(measured)},  # seeds of a bridge tell nothing of a text's
    )
    whole = next((one.costs.get("prompt_kv_bytes") for one in measured if one.way == ALONE), None)
    rows: list[dict[str, Any]] = []
    for name, one in zip(cells.names, measured, strict=True):
        low, high = cells.accuracy(name)
        held = one.costs.get("prompt_kv_bytes")
        rows.append(
            {
                **{"way": one.way, "tokens": one.tokens, "runs": len(one.correct), "n": cells.items},
                **{"clusters": cells.groups, "accuracy": float(one.correct.mean()), "low": low, "high": high},
                "share": None if one.tokens is None or not prompt_tokens else one.tokens / prompt_tokens,
                **{quantity: one.costs.get(quantity) for quantity in QUANTITIES},
                "held": None if held is None or not whole else held / whole,
                "saved_bytes": None if held is None or whole is None else whole - held,
            }
        )
    return with_front(rows)


def with_front(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of `compression_rows`, of one call or several, with `efficient` as it is among all of them."""
    return [{**row, "efficient": not any(_beats(other, row) for other in rows)} for row in rows]


def _beats(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Return whether a is at least as accurate as b with at most its keys and values, and better in one of the two."""
    if a["prompt_kv_bytes"] is None or b["prompt_kv_bytes"] is None:
        return b["prompt_kv_bytes"] is None  # what is not known stands on no front
    better = a["accuracy"] > b["accuracy"] or a["prompt_kv_bytes"] < b["prompt_kv_bytes"]
    return bool(a["accuracy"] >= b["accuracy"] and a["prompt_kv_bytes"] <= b["prompt_kv_bytes"] and better)
