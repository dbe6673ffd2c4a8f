"""The table of costs, of the appendix and of the command `benchmark`, and how its numbers are written."""

from collections.abc import Mapping, Sequence
from typing import Any

from bridge_common.shown_names import condition_name

HEADER = (
    *("variant", "condition", "accuracy, %", "efficient", "prefill", "of them cached", "decoded", "FLOPs"),
    *("passed", "states", "KV", "seconds"),
)
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def cost_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the costs as a Markdown table, followed by the size of each variant's bridge.

    Args:
        rows: as `tune_spaces.analysis.costs.cost_rows` returns them.
    """
    lines = [HEADER, ["---"] * len(HEADER), *(_line(row) for row in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    bridges = {row["variant"]: row for row in rows}
    sizes = [
        f"{name} {scaled(row['bridge_parameters'])} parameters, {scaled(row['bridge_bytes'], 'B')}"
        for name, row in bridges.items()
        if row["bridge_parameters"] is not None
    ]
    return table + (f"\n\nBridges: {'; '.join(sizes)}." if sizes else "")


def _line(row: Mapping[str, Any]) -> list[str]:
    cached = row["cached_tokens"]
    return [
        str(row["variant"]),
        condition_name(str(row["condition"])),
        f"{100 * row['accuracy']:.1f}",
        "yes" if row["efficient"] else "",
        tokens(None if cached is None else row["prefill_tokens"] + cached),
        tokens(cached),
        tokens(row["decoded_tokens"]),
        scaled(row["flops"]),
        *(scaled(row[name], "B") for name in ("passed_bytes", "state_bytes", "kv_bytes")),
        "" if row["seconds"] is None else f"{row['seconds']:.3g}",
    ]


def tokens(value: float | None) -> str:
    """Write a mean number of tokens."""
    return "not known" if value is None else f"{value:,.1f}".removesuffix(".0")


def scaled(value: float | None, unit: str = "") -> str:
    """Write a number to three digits with a decimal prefix, as in 12.3 TB."""
    if value is None:
        return "not known"
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}{unit}".strip()
