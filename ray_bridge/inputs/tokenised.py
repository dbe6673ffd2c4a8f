"""Tokenise texts for a model; a few-shot header that opens all of them is read once where that gives the same ids.

A header of eight exemplars is ten times as long as the question after it, so reading it again for every example is
nearly all the work. Whether a tokenizer splits where the header ends is checked in every text, not assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ray_bridge.models.token_alignment import ByteSpans, spans_of
from ray_bridge.models.token_spelling import TokenSpelling, spelling_of

_OVERLAP = 48
"""Characters of a header's end that are read again before every text, from the start of their line on."""
_LONG = 400
"""Characters of a text that is read again in part only, if more follows it."""
_AGREEING = 4
"""Tokens in these characters that must be the same whether all of the header is read or its end alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenisedText:
    """A text as a tokenizer reads it at the start of a sequence, without BOS and EOS.

    Attributes:
        known: ids of its first tokens, which were read with the header.
        part: the text from some character on, which was read for this text; all other tokens are from it.
        encoding: the tokenizer's result for the part.
        spelling: the bytes of its tokens.
        first: the first token of the encoding that follows the known ones.
        characters: of the text before the part.
        bytes: of the text before the part, in UTF-8.
    """

    part: str
    encoding: Any
    spelling: TokenSpelling
    known: tuple[int, ...] = ()
    first: int = 0
    characters: int = 0
    bytes: int = 0

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The text's token ids."""
        return (*self.known, *self.encoding.ids[self.first :])

    @cached_property
    def byte_spans(self) -> ByteSpans:
        """Which bytes of the text each token covers, without the known ones."""
        spans = spans_of(self.spelling, self.part, self.encoding)  # (tokens, 2)
        return ByteSpans(first=len(self.known), spans=spans[self.first :] + self.bytes)

    def tokens_before(self, end: int, *, whole_tokens: bool = False) -> int:
        """Return how many tokens come before a character of the text.

        Args:
            end: the character.
            whole_tokens: leave out a token that lies across the character.

        Raises:
            ValueError: if a token lies across it; prompts must end where tokenizers split.
        """
        end -= self.characters
        offsets = self.encoding.offsets
        token = self.first
        while token < len(offsets) and offsets[token][0] < end:
            token += 1
        if token > self.first and offsets[token - 1][1] > end:
            if whole_tokens:
                return len(self.known) + token - 1 - self.first
            raise ValueError(
                f"a token lies across the end of {self.part[max(0, end - 20) : end]!r}: end the prompt at a word's end"
            )
        return len(self.known) + token - self.first


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[TokenisedText]:
    """Tokenise texts, each as a whole."""
    if not texts:
        return []
    encodings, spelling = tokenizer(list(texts), add_special_tokens=False).encodings, spelling_of(tokenizer)
    return [TokenisedText(part=t, encoding=e, spelling=spelling) for t, e in zip(texts, encodings, strict=True)]


class HeaderTokenizer:
    """Tokenises texts after one header, with the ids that header and text have as one string.

    The whole header is read before the first text. Before every other one only its last lines are read again, and if
    their first tokens come out as they did then, the tokens before them are the same, too: a sequence of byte-pair
    tokens is the one that its text has if every two neighbours are what their own text is split into. A text before
    which they come out differently is read with the whole header, and so are all texts if the tokenizer does no
    byte-pair encoding.

    Args:
        tokenizer: a fast tokenizer.
        header: opens every text; may be empty.
    """

    def __init__(self, tokenizer: Any, header: str) -> None:
        self.tokenizer, self.header = tokenizer, header
        model = tokenizer.backend_tokenizer.model
        self._byte_pairs = type(model).__name__ == "BPE" and not model.dropout
        self._splits = bool(header) and self._byte_pairs
        self._end: _HeaderEnd | None = None

    def __call__(self, texts: Sequence[str]) -> list[TokenisedText]:
        """Tokenise header + text for each of the texts."""
        if texts and self._splits and self._end is None:
            self._end = self._read_end(texts[0])
            self._splits = self._end is not None
        if self._end is None:
            return tokenise(self.tokenizer, [self.header + text for text in texts])
        end = self._end
        read = [end.joined(one) for one in tokenise(self.tokenizer, [end.text + text for text in texts])]
        others = [text for text, one in zip(texts, read, strict=True) if one is None]
        whole = iter(tokenise(self.tokenizer, [self.header + text for text in others]))
        return [next(whole) if one is None else one for one in read]

    def continued(
        self, texts: Sequence[str], read: Sequence[TokenisedText], longer: Sequence[str]
    ) -> list[TokenisedText]:
        """Tokenise header + text for each of `longer`, reading only the last lines of what was read before again.

        Args:
            texts: texts that were tokenised.
            read: what came of them.
            longer: for each of them another text, which mostly starts with it.
        """
        begins = [self._last_lines(one, text, new) for one, text, new in zip(read, texts, longer, strict=True)]
        again = [
            one.part[begin:] + new[len(text) :]
            for one, text, new, begin in zip(read, texts, longer, begins, strict=True)
            if begin
        ]
        parts = iter(tokenise(self.tokenizer, again))
        joined = [
            _continued(one, begin, next(parts)) if begin else None for one, begin in zip(read, begins, strict=True)
        ]
        rest = iter(self([new for new, one in zip(longer, joined, strict=True) if one is None]))
        return [next(rest) if one is None else one for one in joined]

    def _last_lines(self, read: TokenisedText, text: str, longer: str) -> int:
        """Return where the last lines of a text's part begin, 0 if they are not to be read alone."""
        if not self._byte_pairs or len(read.part) < _LONG or not longer.startswith(text):
            return 0
        return read.part.rfind("\n", 0, len(read.part) - _OVERLAP) + 1

    def _read_end(self, text: str) -> "_HeaderEnd | None":
        """Return the header's last lines as they are read before a text; None if the tokenizer does not split there."""
        header, length = self.header, _OVERLAP
        (whole,) = tokenise(self.tokenizer, [header + text])
        try:
            of_header = whole.ids[: whole.tokens_before(len(header))]
            while (start := header.rfind("\n", 0, max(0, len(header) - length)) + 1) > 0:
                (part,) = tokenise(self.tokenizer, [header[start:] + text])
                ids = part.ids[: part.tokens_before(len(header) - start)]
                same = _common_suffix(of_header, ids)
                if same >= _AGREEING and part.ids[len(ids) :] == whole.ids[len(of_header) :]:
                    return _HeaderEnd(
                        text=header[start:],
                        start=list(ids[: len(ids) - same + _AGREEING]),
                        known=of_header[: len(of_header) - same],
                        first=len(ids) - same,
                        characters=start,
                        bytes=len(header[:start].encode()),
                    )
                length *= 2
        except ValueError:  # a token lies across the header's end
            return None
        return None


@dataclass(frozen=True, kw_only=True)
class _HeaderEnd:
    """The last lines of a header, which are read again before every text.

    Attributes:
        text: these lines.
        start: their first tokens when they are read alone.
        known: ids of the header's tokens before those lines.
        first: how many of `start` belong to the known ones or are not the header's, such as a space before a text.
        characters: of the header before the lines.
        bytes: of the header before the lines, in UTF-8.
    """

    text: str
    start: list[int]
    known: tuple[int, ...]
    first: int
    characters: int
    bytes: int

    def joined(self, read: TokenisedText) -> TokenisedText | None:
        """Return a text that was read after the lines as it is after the header; None if they start differently."""
        if read.encoding.ids[: len(self.start)] != self.start:
            return None
        return TokenisedText(
            part=read.part,
            encoding=read.encoding,
            spelling=read.spelling,
            known=self.known,
            first=self.first,
            characters=self.characters,
            bytes=self.bytes,
        )


def _continued(read: TokenisedText, begin: int, part: TokenisedText) -> TokenisedText | None:
    """Return a text whose end was read again with what follows it; None if the end starts with other tokens.

    Args:
        read: the text as it was read.
        begin: the character of its part at which its end begins.
        part: the end with what follows it, read alone.
    """
    own, new = read.encoding, part.encoding
    ids, new_ids, first = own.ids, new.ids, own.char_to_token(begin)
    if first is None:
        return None
    for k in range(1, 1 + _AGREEING):  # the very first token may hold a space put before a text
        for j in range(max(first, read.first), min(first + 2 * _AGREEING, len(ids))):
            agree = new_ids[k : k + _AGREEING]
            if len(agree) < _AGREEING or ids[j : j + _AGREEING] != agree:
                continue
            if own.offsets[j][0] == new.offsets[k][0] + begin:
                return TokenisedText(
                    part=part.part,
                    encoding=new,
                    spelling=part.spelling,
                    known=(*read.known, *ids[read.first : j]),
                    first=k,
                    characters=read.characters + begin,
                    bytes=read.bytes + len(read.part[:begin].encode()),
                )
    return None


def _common_suffix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many last elements are the same in both."""
    count = 0
    while count < min(len(a), len(b)) and a[-1 - count] == b[-1 - count]:
        count += 1
    return count
