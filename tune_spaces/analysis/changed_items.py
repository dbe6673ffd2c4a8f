"""The items that exactly one of two runs solves, with their texts, for a reader to check."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from tune_spaces.analysis.samples import Samples, read_rows

COLUMNS = ("a", "b", "id", "solved_by", "gold", "answer_a", "answer_b", "question", "output_a", "output_b")


def changed_items(a: str, first: Samples, b: str, second: Samples) -> list[dict[str, Any]]:
    """Return one row per item that exactly one of two aligned runs solves, in the order of the items.

    Args:
        a: name of the first run.
        first: its samples.
        b: name of the second run.
        second: its samples, on the same items in the same order.
    """
    x, y = first.conditions["bridged"].correct, second.conditions["bridged"].correct
    positions = np.flatnonzero(x != y).tolist()
    rows = zip(positions, read_rows(first, positions), read_rows(second, positions), strict=True)
    return [
        {
            "a": a,
            "b": b,
            "id": str(one.get("id", one.get("index"))),
            "solved_by": a if x[position] else b,
            "gold": one.get("gold"),
            "answer_a": one.get("bridged_answer"),
            "answer_b": two.get("bridged_answer"),
            "question": one.get("question", ""),
            "output_a": one.get("bridged_output", ""),
            "output_b": two.get("bridged_output", ""),
        }
        for position, one, two in rows
    ]


def spread(rows: Iterable[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Choose at most `limit` rows, in turn from each pair and direction, so that no pair crowds out the others."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["a"], row["b"], row["solved_by"]), []).append(row)
    chosen: list[dict[str, Any]] = []
    depth = 0
    while len(chosen) < limit and any(len(group) > depth for group in groups.values()):
        chosen += [group[depth] for group in groups.values() if len(group) > depth]
        depth += 1
    kept = {id(row) for row in chosen[:limit]}
    return [row for group in groups.values() for row in group if id(row) in kept]
