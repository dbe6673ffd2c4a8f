"""The table of accuracy by groups of items."""

from collections.abc import Mapping, Sequence
from typing import Any

from bridge_common.shown_names import group_name
from tune_spaces.analysis.verdicts import points
from tune_spaces.appendix.tables import percent, table

GROUPS = """\
Groups of items that the task names. Each variant is compared with its own target alone, on its own items, so variants
of another task are here, too. Intervals are not corrected: the more groups, the more of them exclude 0 by chance."""
HEADER = (
    *("variant", "group", "value", "runs", "items", "bridged, %", "95 % interval", "target alone, %"),
    *("gain, points", "95 % interval of the gain"),
)


def group_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table in Markdown.

    Args:
        rows: as `tune_spaces.analysis.groups.group_rows` returns them.
    """
    return table(HEADER, map(_line, rows))


def _line(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        *(row["variant"], row["group"], group_name(row["value"], row["group"]), row["runs"], row["n"]),
        percent(row["accuracy"]),
        "" if row["low"] is None else f"[{percent(row['low'])}, {percent(row['high'])}]",
        "" if row["alone"] is None else percent(row["alone"]),
        "" if row["gain"] is None else points(row["gain"]),
        "" if row["gain_low"] is None else f"[{points(row['gain_low'])}, {points(row['gain_high'])}]",
    )
