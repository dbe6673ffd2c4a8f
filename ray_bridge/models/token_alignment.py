"""Align the tokens of two tokenizers by the bytes of a text that they cover.

A number is five tokens to one model and two to another; what both share are the bytes. Offsets alone are not enough:
some tokenizers trim the space off a token's offsets, and byte-level ones give all tokens of a split character the same
offsets. If the tokens spell the text exactly, their own bytes decide; if a tokenizer rewrites the text (NFC, lower
case), its offsets do.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_UNPRINTABLE = [byte for byte in range(256) if byte not in _PRINTABLE]
_ALPHABET = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(_UNPRINTABLE)}
"""The byte that each character stands for in byte-level tokenizers' tokens (Radford et al. 2019)."""


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


def align_tokens(source: Any, target: Any, text: str, begin: int, end: int) -> TokenAlignment:
    """Align two fast tokenizers over the characters [begin, end) of a text.

    Args:
        source: tokenizer of the model whose states are pooled.
        target: tokenizer onto whose tokens they are pooled.
        text: the text that both read, without special tokens.
        begin: first character of the span.
        end: one past its last character; the span is not empty.
    """
    low, high = len(text[:begin].encode()), len(text[:end].encode())
    rows, of_target = _cover(byte_spans(target, text), low, high)  # (T,), (T, bytes)
    columns, of_source = _cover(byte_spans(source, text), low, high)  # (S,), (S, bytes)
    shared = of_target @ of_source.T  # (T, S)
    row, column = shared.nonzero()
    counts = of_target.sum(1)  # (T,)
    return TokenAlignment(
        source_span=(int(columns[0]), int(columns[-1]) + 1),
        tokens=rows.astype(np.int32),
        bytes=counts.astype(np.float32),
        row=row.astype(np.int32),
        column=(columns[column] - columns[0]).astype(np.int32),
        share=(shared[row, column] / counts[row]).astype(np.float32),
    )


def byte_spans(tokenizer: Any, text: str) -> NDArray[np.int64]:
    """Return the first and one past the last UTF-8 byte of each token, (tokens, 2).

    Spans cover the whole text. They overlap only if a tokenizer that rewrites the text splits a character.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    data = text.encode()
    for spell in (_byte_level, _metaspace):
        spelled = [spell(piece) for piece in pieces]
        ahead = sum(map(len, spelled)) - len(data)  # 1 if the tokenizer puts a space before a text
        if ahead in (0, 1) and b"".join(spelled) == b" " * ahead + data:
            edges = np.maximum(np.array([0, *accumulate(map(len, spelled))]) - ahead, 0)  # (tokens + 1,)
            return np.stack([edges[:-1], edges[1:]], 1)
    return _offset_spans(text, encoded["offset_mapping"])


def vocabulary_bytes(tokenizer: Any) -> dict[bytes, int]:
    """Return the id of each byte string that a vocabulary's tokens spell, without special tokens.

    Byte tokens, which spell what is not in the vocabulary, are left out except for white space (Mistral's newline is
    one): hardly any of them was trained.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.update(tokenizer.all_special_ids)
    spell = _metaspace if any("▁" in token for token in vocabulary) else _byte_level
    ids: dict[bytes, int] = {}
    for number, token in sorted((number, token) for token, number in vocabulary.items() if number not in special):
        spelled = spell(token)
        if not _BYTE_TOKEN.fullmatch(token):
            ids[spelled] = number
        elif spelled.isspace():
            ids.setdefault(spelled, number)
    return ids


@lru_cache(maxsize=1 << 16)
def _byte_level(token: str) -> bytes:
    if all(character in _ALPHABET for character in token):
        return bytes(_ALPHABET[character] for character in token)
    return token.encode()  # an added token, kept as it is written


@lru_cache(maxsize=1 << 16)
def _metaspace(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


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


def _cover(spans: NDArray[np.int64], low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the tokens of the bytes [low, high), (n,), and their shares of each byte, (n, high - low).

    Columns sum to 1: tokens that overlap in a byte have equal shares of it.
    """
    inside = ((spans[:, 0] < high) & (spans[:, 1] > low) & (spans[:, 1] > spans[:, 0])).nonzero()[0]  # (n,)
    place = np.arange(low, high)  # (bytes,)
    covers = (spans[inside, :1] <= place) & (place < spans[inside, 1:])  # (n, bytes)
    return inside, covers / covers.sum(0)
