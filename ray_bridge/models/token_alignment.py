"""Align the tokens of two tokenizers by the bytes of a text that they cover.

A number is five tokens to one model and two to another; what both share are the bytes. Offsets alone are not enough:
some tokenizers trim the space off a token's offsets, and byte-level ones give all tokens of a split character the same
offsets. If the tokens spell the text exactly, their own bytes decide; if a tokenizer rewrites the text (NFC, lower
case), its offsets do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_bridge.models.token_spelling import TokenSpelling


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenAlignment:
    """How source tokens are pooled onto the target's tokens of one span of text, as a sparse matrix (T, S).

    Attributes:
        source_span: first and one past the last source token of the span; S is its length.
        tokens: (T,), positions in the text of the span's target tokens.
        bytes: (T,), how many bytes of the span each target token covers.
        row: (n,), rows of the matrix's entries.
        column: (n,), their columns.
        share: (n,), their values; each row of the matrix sums to 1.
    """

    source_span: tuple[int, int]
    tokens: NDArray[np.int32]
    bytes: NDArray[np.float32]
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    share: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ByteSpans:
    """Which UTF-8 bytes of a text consecutive tokens cover.

    Attributes:
        first: position in the text of the first of these tokens.
        spans: (tokens, 2), the first and one past the last byte of each.
    """

    first: int
    spans: NDArray[np.int64]

    def inside(self, low: int, high: int) -> tuple[int, int]:
        """Return the position of the first token that covers one of the bytes [low, high), and one past the last."""
        tokens = _covering(self.spans, low, high) + self.first  # (n,)
        return int(tokens[0]), int(tokens[-1]) + 1


def align_spans(source: ByteSpans, target: ByteSpans, low: int, high: int) -> TokenAlignment:
    """Align the tokens of two tokenizers over the bytes [low, high) of a text, in time linear in their number.

    Tokens that overlap in a byte have equal shares of it.

    Args:
        source: tokens of the model whose states are pooled.
        target: tokens onto which they are pooled.
        low: first byte; the span is not empty.
        high: one past the last byte.
    """
    rows, columns = _covering(target.spans, low, high), _covering(source.spans, low, high)  # (T,), (S,)
    of_target, of_source = (s.clip(low, high) for s in (target.spans[rows], source.spans[columns]))  # (T, 2), (S, 2)
    edges = np.unique(np.concatenate([of_target.ravel(), of_source.ravel()]))  # (m + 1,), between them nothing changes
    bytes_between = np.diff(edges).astype(np.float64)  # (m,)
    row, row_piece, row_count = _pieces(of_target, edges)  # (p,), (p,), (m,)
    column, column_piece, column_count = _pieces(of_source, edges)  # (q,), (q,), (m,)
    by_piece = column[np.argsort(column_piece, kind="stable")]  # (q,), columns by the piece that they cover
    begins = np.cumsum(column_count) - column_count  # (m,)
    repeats = column_count[row_piece]  # (p,), each row meets all columns of its piece
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)  # (n',)
    met = by_piece[np.repeat(begins[row_piece], repeats) + within]  # (n',)
    shared = np.repeat(bytes_between[row_piece] / (row_count * column_count)[row_piece], repeats)  # (n',)
    entries, place = np.unique(np.repeat(row, repeats) * len(columns) + met, return_inverse=True)  # (n,), (n',)
    shared = np.bincount(place, shared, len(entries))  # (n,)
    counts = np.bincount(row, bytes_between[row_piece] / row_count[row_piece], len(rows))  # (T,)
    entry_rows = entries // len(columns)  # (n,)
    return TokenAlignment(
        source_span=(int(columns[0]) + source.first, int(columns[-1]) + source.first + 1),
        tokens=(rows + target.first).astype(np.int32),
        bytes=counts.astype(np.float32),
        row=entry_rows.astype(np.int32),
        column=((columns - columns[0])[entries % len(columns)]).astype(np.int32),
        share=(shared / counts[entry_rows]).astype(np.float32),
    )


def spans_of(spelling: TokenSpelling, text: str, encoding: Any) -> NDArray[np.int64]:
    """Return the first and one past the last UTF-8 byte of each token, (tokens, 2), from a tokenizer's encoding.

    Spans cover the whole text. They overlap only if a tokenizer that rewrites the text splits a character.

    Args:
        spelling: the bytes that the tokenizer's ids stand for.
        text: what was tokenised, without special tokens.
        encoding: the tokenizer's result for the text.
    """
    data, spelled = text.encode(), spelling(encoding.ids)
    lengths = np.fromiter(map(len, spelled), dtype=np.int64, count=len(spelled))  # (tokens,)
    ahead = int(lengths.sum()) - len(data)  # 1 if the tokenizer puts a space before a text
    if ahead in (0, 1) and b"".join(spelled) == b" " * ahead + data:
        edges = np.maximum(np.cumsum(np.concatenate([[0], lengths])) - ahead, 0)  # (tokens + 1,)
        return np.stack([edges[:-1], edges[1:]], 1)
    return _offset_spans(text, encoding.offsets)


def _offset_spans(text: str, offsets: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    at = [0, *accumulate(len(character.encode()) for character in text)]
    spans, reached = [], 0
    for low, high in offsets:
        if high > low:  # bytes that no token covers (trimmed spaces) go to the token after them
            spans.append([min(at[low], reached), at[high]])
            reached = max(reached, at[high])
        else:
            spans.append([at[low], at[low]])
    if spans:
        last = max(range(len(spans)), key=lambda i: (spans[i][1] > spans[i][0], i))
        spans[last][1] = at[-1]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _covering(spans: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """Return the tokens that cover at least one of the bytes [low, high), (n,)."""
    return ((spans[:, 0] < high) & (spans[:, 1] > low) & (spans[:, 1] > spans[:, 0])).nonzero()[0]


def _pieces(
    spans: NDArray[np.int64], edges: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut spans (n, 2) at sorted edges (m + 1,), among which their ends are.

    Returns:
        The span and the piece of each part, (p,) each, and how many spans cover each piece, (m,).
    """
    begins, ends = np.searchsorted(edges, spans).T  # (n,), (n,)
    lengths = ends - begins  # (n,)
    span = np.repeat(np.arange(len(spans)), lengths)  # (p,)
    piece = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - begins, lengths)  # (p,)
    return span, piece, np.bincount(piece, minlength=len(edges) - 1)
