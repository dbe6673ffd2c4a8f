"""Markdown tables and numbers, as every section of the appendix writes them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from bridge_common.visible_text import visible
from tune_spaces.analysis.paired_comparison import PairedComparison
from tune_spaces.analysis.verdicts import below_level, points

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def cell(value: Any) -> str:
    """Return a value as one line that a table's cell can hold and in which no text of a model is markup."""
    line = visible(" ".join(str(value).split())).replace("|", "\\|")
    return _TAG.sub("&lt;", line)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def clusters(groups: int, items: int) -> str:
    """Return the number of clusters of items; nothing if every item is one."""
    return "" if groups == items else str(groups)


def percent(value: float) -> str:
    """Return a share in per cent, without the sign."""
    return f"{100 * value:.1f}"


def p_in_table(value: float | None) -> str:
    """Return a p-value to three places; nothing if it was not computed."""
    if value is None:
        return ""
    text = f"{value:.3f}"
    return "< 0.001" if value < 0.001 else below_level(value, text, "0.0499")


def difference(pair: PairedComparison) -> str:
    """Return the difference of a pair in points, with its interval, starred if it was shown."""
    return f"{points(pair.difference)} [{points(pair.ci_low)}, {points(pair.ci_high)}]{' *' if pair.shown else ''}"
