"""The table of accuracy at K tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from tune_spaces.analysis.compression import WAYS
from tune_spaces.appendix.cost_table import scaled
from tune_spaces.appendix.tables import clusters, percent, table

HEADER = (
    *("the target reads", "K", "K, %", "held, %", "runs", "items", "clusters", "accuracy, %", "95 % interval"),
    *("KV of its prompt", "KV saved", "seconds", "alone, s", "front"),
)

COMPRESSION = """\
K is a number of soft tokens, or of tokens of text: the question's first, the source's summary in its place, or the
source's answer beside the prompt. *K, %* is K over the tokens of the whole prompt; *held, %* is what the target holds
of its prompt, soft tokens or text and all around them, over the whole prompt. *KV saved* is of the whole prompt's keys
and values in the target, negative where the target holds more. *Front*: no other row is as accurate with fewer keys and
values, or more accurate with as many. Seconds are a worker's for a question, in the evaluation's batches, the source's
part counted in; *alone* is the median of questions answered one at a time, where it was measured. Text depends on no
bridge and no seed, so it was answered once."""


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
        *("" if row.get(name) is None else percent(row[name]) for name in ("share", "held")),
        row["runs"],
        row["n"],
        clusters(row["clusters"], row["n"]),
        percent(row["accuracy"]),
        "" if row["low"] is None else f"[{percent(row['low'])}, {percent(row['high'])}]",
        scaled(row["prompt_kv_bytes"], "B"),
        scaled(row["saved_bytes"], "B"),
        *("" if row.get(name) is None else f"{row[name]:.2g}" for name in ("seconds", "answer_seconds")),
        "yes" if row["efficient"] else "",
    )
