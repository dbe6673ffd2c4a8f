"""The table of accuracy at K tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from tune_spaces.analysis.compression import WAYS
from tune_spaces.appendix.cost_table import scaled
from tune_spaces.appendix.tables import clusters, percent, table

HEADER = (
    *("the target reads", "K", "share, %", "runs", "items", "clusters", "accuracy, %", "95 % interval"),
    *("KV of its prompt", "KV saved", "seconds", "front"),
)

COMPRESSION = """\
K is a number of soft tokens, or of tokens of text: the question's first, the source's summary in its place, or the
source's answer beside the prompt. Share is K over the tokens of the whole prompt. *KV saved* is of the whole prompt's
keys and values in the target, negative where the target holds more. *Front*: no other row is as accurate with fewer
keys and values, or more accurate with as many. Seconds are a worker's for a question, in the evaluation's batches,
the source's part counted in. Text depends on no bridge and no seed, so it was answered once."""


def compression_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table in Markdown.

    Args:
        rows: as `tune_spaces.analysis.compression.compression_rows` returns them.
    """
    return table(HEADER, map(_line, rows))


def _line(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        WAYS[row["way"]],
        "" if row["tokens"] is None else row["tokens"],
        "" if row["share"] is None else percent(row["share"]),
        row["runs"],
        row["n"],
        clusters(row["clusters"], row["n"]),
        percent(row["accuracy"]),
        f"[{percent(row['low'])}, {percent(row['high'])}]",
        scaled(row["prompt_kv_bytes"], "B"),
        scaled(row["saved_bytes"], "B"),
        "" if row["seconds"] is None else f"{row['seconds']:.2g}",
        "yes" if row["efficient"] else "",
    )
