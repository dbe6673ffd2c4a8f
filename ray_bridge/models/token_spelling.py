"""Which bytes of text a vocabulary's tokens stand for.

Byte-level tokenizers (Radford et al. 2019) write each byte as one character, a space as `Ġ` and a line's end as `Ċ`.
SentencePiece-like ones write text as it is, a space as `▁`, and bytes that their vocabulary lacks as `<0x0A>`. Either
may have tokens that look like the other's: the special tokens of DeepSeek-R1-Distill hold `▁`, its text is byte-level.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_UNPRINTABLE = [byte for byte in range(256) if byte not in _PRINTABLE]
_ALPHABET = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(_UNPRINTABLE)}
"""The byte that each character stands for in byte-level tokenizers' tokens."""


class TokenSpelling:
    """The bytes that a fast tokenizer's tokens stand for.

    Attributes:
        byte_level: whether each character of an ordinary token stands for one byte.
        fallback: ids of byte tokens such as `<0x0A>`, empty for a tokenizer that does not decode any as bytes. Their
            text is known only once a run of them has ended: while its bytes are no valid UTF-8, all of them, those of
            whole characters too, are decoded as one `\ufffd` each.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.byte_level = writes_bytes(tokenizer)
        self.fallback = _fallback_ids(tokenizer)
        self._name = tokenizer.convert_ids_to_tokens
        # Text holds an added token as it is written: `café` may be one, and its characters no four bytes.
        added = set(tokenizer.added_tokens_decoder) if self.byte_level else set()
        self._as_written = special_ids(tokenizer) | added
        self._known: dict[int, bytes] = {}

    def __call__(self, ids: Sequence[int]) -> list[bytes]:
        """Return the bytes of each token; special and, if byte-level, added ones are read as they are written."""
        known = self._known
        if unknown := {i for i in ids if i not in known}:
            known.update((i, self._read(i)) for i in unknown)
        return [known[i] for i in ids]

    def _read(self, number: int) -> bytes:
        token: str = self._name(number)
        if number in self._as_written:
            return token.encode()
        return spell(token, byte_level=self.byte_level)


_SPELLINGS: WeakKeyDictionary[Any, TokenSpelling] = WeakKeyDictionary()


def spelling_of(tokenizer: Any) -> TokenSpelling:
    """Return the spelling of a tokenizer, made once."""
    if tokenizer not in _SPELLINGS:
        _SPELLINGS[tokenizer] = TokenSpelling(tokenizer)
    return _SPELLINGS[tokenizer]


def vocabulary_bytes(tokenizer: Any) -> dict[bytes, int]:
    """Return the id of each byte string that a vocabulary's tokens spell, without special tokens.

    Byte tokens, which spell what is not in the vocabulary, are left out except for white space (Mistral's newline is
    one): hardly any of them was trained.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special, spelling = special_ids(tokenizer), spelling_of(tokenizer)
    ids: dict[bytes, int] = {}
    ordinary = sorted((number, token) for token, number in vocabulary.items() if number not in special)
    for (number, token), spelled in zip(ordinary, spelling([number for number, _ in ordinary]), strict=True):
        if spelling.byte_level or not _BYTE_TOKEN.fullmatch(token):
            ids[spelled] = number
        elif spelled.isspace():
            ids.setdefault(spelled, number)
    return ids


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of tokens that stand for no text."""
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return special | set(tokenizer.all_special_ids)


def _fallback_ids(tokenizer: Any) -> frozenset[int]:
    steps = _steps(tokenizer.backend_tokenizer.decoder)
    reads_bytes = any(step.get("type") == "ByteFallback" for step in steps)
    vocabulary = tokenizer.get_vocab().items() if reads_bytes else ()
    return frozenset(number for token, number in vocabulary if _BYTE_TOKEN.fullmatch(token))


def writes_bytes(tokenizer: Any) -> bool:
    """Return whether a fast tokenizer is byte-level, by how it splits and joins text.

    What turns text into characters decides, then what turns them back, since some decoders undo both kinds. If neither
    says so, ordinary tokens do: special ones may hold anything.
    """
    backend = tokenizer.backend_tokenizer
    for parts in ((backend.normalizer, backend.pre_tokenizer), (backend.decoder,)):
        steps = [step for part in parts for step in _steps(part)]
        kinds = {step.get("type") for step in steps}
        if "ByteLevel" in kinds:
            return True
        if kinds & {"Metaspace", "ByteFallback"} or any(step.get("content") in ("▁", " ") for step in steps):
            return False
    added = set(tokenizer.added_tokens_decoder)
    ordinary = [token for token, number in tokenizer.get_vocab().items() if number not in added]
    return any("Ġ" in token for token in ordinary) and all(c in _ALPHABET for token in ordinary for c in token)


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """Yield the settings of a part of a tokenizer, and of the parts that it is made of."""
    waiting: list[Any] = [] if part is None else [json.loads(part.__getstate__())]
    while waiting:
        step = waiting.pop()
        if isinstance(step, dict):
            yield step
            for name in ("normalizers", "pretokenizers", "decoders"):
                waiting.extend(step.get(name, ()))


@lru_cache(maxsize=1 << 16)
def spell(token: str, *, byte_level: bool) -> bytes:
    """Return the bytes that an ordinary token stands for."""
    if byte_level:
        if all(character in _ALPHABET for character in token):
            return bytes(_ALPHABET[character] for character in token)
        return token.encode()  # written as text all the same
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()
