"""Rows of token ids, before any model has embedded them, and the way from text to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

WORTHWHILE = 16
"""Shorter headers are read again: less is saved than the joining of keys and values costs."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Token ids of one sequence: `before` stands before the soft tokens (BOS first), `prompt` after them.

    `answer` is what is supervised, EOS included; it is empty when the answer is to be generated. `header` says how many
    ids, BOS first, are the few-shot header's: the same in all rows of a job. Where `injection` is not "prepend" no soft
    tokens are inserted: they are added to the embeddings of `prompt[slice(*span)]`, or read by adapters.
    """

    before: tuple[int, ...]
    prompt: tuple[int, ...]
    answer: tuple[int, ...] = field(default=())
    header: int = 0
    injection: Literal["prepend", "residual", "adapter"] = "prepend"
    span: tuple[int, int] = (0, 0)

    def text_only(self) -> "Row":
        """The same text as one block without a place for soft tokens."""
        return Row(before=(), prompt=self.before + self.prompt, answer=self.answer, header=self.header)

    def question(self) -> "Row":
        """The same row with its answer to be generated."""
        return replace(self, answer=())

    def without(self, count: int) -> "Row":
        """The row behind its first `count` ids; soft tokens may follow where those all stand before their place."""
        rest = max(0, count - len(self.before))
        return replace(self, before=self.before[count:], prompt=self.prompt[rest:], header=0)


def token_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Ids of a text that stands at the start of a sequence, without BOS or EOS."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def split_ids(tokenizer: Any, *parts: str) -> list[tuple[int, ...]]:
    """Token ids of consecutive parts of one text, as they are when the whole is tokenised as one string.

    An answer tokenised by itself differs from the same answer after its prompt (SentencePiece-like tokenizers put a
    space before it), so that training would supervise tokens that generation never meets.

    Raises:
        ValueError: when one token lies across two parts; prompts must end where tokenizers cut.
    """
    encoded = tokenizer("".join(parts), add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    result, token, end = [], 0, 0
    for part in parts[:-1]:
        end += len(part)
        first = token
        while token < len(ids) and offsets[token][0] < end:
            token += 1
        if token > first and offsets[token - 1][1] > end:
            raise ValueError(f"a token lies across the end of {part[-20:]!r}: end the prompt at a word's end")
        result.append(tuple(ids[first:token]))
    return [*result, tuple(ids[token:])]


def shared_header(rows: Sequence[Row], *, soft: bool) -> tuple[int, ...]:
    """The ids that open all rows and do not depend on soft tokens; empty where they are not worth keeping.

    Args:
        rows: rows of one batch.
        soft: whether soft tokens will stand behind each row's `before`.
    """
    first = rows[0]
    length = first.header
    if length < WORTHWHILE or (soft and (length > len(first.before) or first.injection == "adapter")):
        return ()  # adapters change what the header's tokens hold, too
    ids = (first.before + first.prompt)[:length]
    same = all(row.header == length and (row.before + row.prompt)[:length] == ids for row in rows)
    return ids if same else ()
