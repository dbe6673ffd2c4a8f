"""Rows of token ids, before a model embeds them, and the tokenising of their parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

MIN_HEADER = 16
"""Shorter headers are read again in every row, which costs less than joining their keys and values."""

IN_ALL_ROWS = ("adapter", "kv_prefix", "c2c")
"""Injections that change the states of the header's tokens, too, or read them with each row."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Token ids of one sequence.

    Attributes:
        before: ids before the soft tokens, BOS first; empty if the row has no place for soft tokens.
        prompt: ids after the soft tokens.
        answer: ids that are supervised, EOS included; empty if the answer is to be generated.
        header: how many of the first ids, BOS included, are the few-shot header's, the same in all rows of a job.
        injection: how soft tokens reach the target: inserted after `before`, added to the embeddings of
            `prompt[slice(*span)]`, read by adapters, or written into the cache of keys and values.
        span: the question's tokens in `prompt`.
    """

    before: tuple[int, ...]
    prompt: tuple[int, ...]
    answer: tuple[int, ...] = field(default=())
    header: int = 0
    injection: Literal["prepend", "residual", "adapter", "kv_prefix", "c2c"] = "prepend"
    span: tuple[int, int] = (0, 0)

    def text_only(self) -> "Row":
        """Return the same text without a place for soft tokens."""
        return Row(before=(), prompt=self.before + self.prompt, answer=self.answer, header=self.header)

    def without_answer(self) -> "Row":
        """Return the same row with its answer to be generated."""
        return replace(self, answer=())

    def after(self, count: int) -> "Row":
        """Return what follows the first `count` ids; a row for soft tokens must have all of these in `before`."""
        rest = max(0, count - len(self.before))
        return replace(self, before=self.before[count:], prompt=self.prompt[rest:], header=0)


def shared_header(rows: Sequence[Row], *, soft: bool) -> tuple[int, ...]:
    """Return the ids that open all rows and do not depend on soft tokens; empty if shorter than `MIN_HEADER`.

    Something has to follow them in every row, since the first token of an answer is predicted from what is before it.

    Args:
        rows: rows of one batch.
        soft: whether soft tokens come after each row's `before`.
    """
    first = rows[0]
    length = first.header
    if length < MIN_HEADER or (soft and (length > len(first.before) or first.injection in IN_ALL_ROWS)):
        return ()
    ids = (first.before + first.prompt)[:length]
    texts = [row.before + row.prompt for row in rows]
    same = all(row.header == length and text[:length] == ids for row, text in zip(rows, texts, strict=True))
    followed = soft or all(len(text) > length for text in texts)
    return ids if same and followed else ()
