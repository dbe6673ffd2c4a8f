"""Where a generated text ends: at an end-of-text id of the model, or once it holds one of the task's stop texts."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_spelling import special_ids, spelling_of


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """What ends a row.

    Attributes:
        ends: ids that end a text: of tokenizer, config and generation config.
        stops: texts that end it, such as the opening of a further exemplar. One of white space alone ends a text only
            after something else, so that a model may begin on a new line.
        tokenizer: of the model.
    """

    ends: frozenset[int]
    stops: tuple[str, ...]
    tokenizer: Any

    @classmethod
    def of(cls, lm: FrozenLM, stops: Sequence[str] = ()) -> "Stopping":
        """Return what ends a text of a model under a task's stop texts."""
        return cls(ends=lm.ends, stops=tuple(stop for stop in stops if stop), tokenizer=lm.tokenizer)

    def end_ids(self, device: torch.device) -> Tensor:
        """Return the ids that end a text, (e,), on a device."""
        return torch.tensor(sorted(self.ends), device=device)

    def is_complete(self, ids: Sequence[int], new: int) -> bool:
        """Return whether a text holds a stop text, given that it held none `new` ids ago."""
        if not self.stops:
            return False
        longest = max(len(stop.encode()) for stop in self.stops) + 1  # a token is a byte of a stop text at least
        begin = self._begin_of_run(ids, len(ids) - new - longest)
        tail = self._shown(ids[begin:])
        if any(stop in tail for stop in self.stops) and self._holds_stop(ids):
            return True
        lengths = (n for n in self._ends_in_runs(ids, begin) if n > len(ids) - new)
        return any(self._holds_stop(ids[:n]) for n in lengths)

    def cut(self, ids: Sequence[int]) -> tuple[list[int], bool]:
        """Cut ids after the first that ends the text or completes a stop text.

        Longer ids are cut at the same place, so the result does not depend on how often a decoder checks.

        Returns:
            The ids, that one included, and whether the text ended there.
        """
        kept, ended = self._until_end(ids)
        length = self._length_with_stop(kept)
        return (kept, ended) if length is None else (kept[:length], True)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids up to where it ends, without end-of-text ids and stop texts."""
        text = self._decode(self.cut(ids)[0])
        return text[: self._stop_at(text)]

    def settled(self, ids: Sequence[int]) -> Sequence[int]:
        """Return the ids without those at their end whose text depends on the next id."""
        return ids[: self._begin_of_run(ids, len(ids))]

    def has_ended(self, ids: Sequence[int]) -> bool:
        """Return whether a decoded text ended by itself, and not at the limit of new tokens."""
        return self.cut(ids)[1]

    def _until_end(self, ids: Sequence[int]) -> tuple[list[int], bool]:
        """Return the ids up to the first that ends the text, and whether there is one."""
        end = next((at for at, token in enumerate(ids) if token in self.ends), None)
        return (list(ids), False) if end is None else (list(ids[: end + 1]), True)

    def _length_with_stop(self, ids: Sequence[int]) -> int | None:
        """Return the least number of ids whose text holds a stop text, or None."""
        if not self.stops:
            return None
        whole = [n for n in range(1, len(ids) + 1) if ids[n - 1] not in self._bytes]
        found = None
        if whole and self._holds_stop(ids[: whole[-1]]):
            # Outside runs of byte tokens a text that holds a stop text holds it in all its continuations.
            found = whole[bisect_left(whole, True, key=lambda n: self._holds_stop(ids[:n]))]
        in_runs = (n for n in self._ends_in_runs(ids, 0) if found is None or n < found)
        return next((n for n in in_runs if self._holds_stop(ids[:n])), found)

    def _ends_in_runs(self, ids: Sequence[int], begin: int) -> list[int]:
        """Return how many ids there are up to each byte token with which the bytes of a stop text end.

        Whether the text there holds it has to be seen: the bytes before may be no characters.
        """
        if not self._bytes:
            return []
        if any("\ufffd" in stop for stop in self.stops):  # what bytes that are no characters are shown as
            return [n for n in range(begin + 1, len(ids) + 1) if ids[n - 1] in self._bytes]
        parts, before = [], b""
        for token, spelled in zip(ids[begin:], spelling_of(self.tokenizer)(ids[begin:]), strict=True):
            if token in self.ends or token in self._special:  # which shows with what follows it
                before += b"\n" if token in self._special else b""
                parts.append(b"")
            else:
                parts.append(before + spelled)
                before = b""
        whole, ends = b"".join(parts), list(accumulate(map(len, parts)))
        begun = len(whole) - len(whole.lstrip()) if begin == 0 else 0
        found = set()
        for stop in map(str.encode, self.stops):
            at = whole.find(stop, begun if stop.isspace() else 0)
            while at >= 0:
                found.add(begin + bisect_left(ends, at + len(stop)) + 1)
                at = whole.find(stop, at + 1)
        return sorted(n for n in found if ids[n - 1] in self._bytes)

    def _begin_of_run(self, ids: Sequence[int], at: int) -> int:
        """Return where the run of byte tokens begins that goes up to a place, or the place."""
        at = max(0, at)
        while at and ids[at - 1] in self._bytes:
            at -= 1
        return at

    @cached_property
    def _bytes(self) -> frozenset[int]:
        return spelling_of(self.tokenizer).fallback

    @cached_property
    def _special(self) -> dict[int, str]:
        """What is decoded of the special tokens that end nothing."""
        ids = special_ids(self.tokenizer) - self.ends
        texts = ((i, str(self.tokenizer.decode([i], clean_up_tokenization_spaces=False))) for i in ids)
        return {i: text for i, text in texts if text}

    def _decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, in which a special token begins a line: it may not join two numbers into one."""
        text_at = [at for at, token in enumerate(ids) if token not in self._special and token not in self.ends]
        return self._shown(ids[text_at[0] : text_at[-1] + 1]) if text_at else ""

    def _shown(self, ids: Sequence[int]) -> str:
        """Return the text of ids, with a line's end for each special token, at their beginning and end, too."""
        kept = [token for token in ids if token not in self.ends]  # some are no special tokens of their tokenizer
        special = {token for token in kept if token in self._special}
        text = str(self.tokenizer.decode(kept, skip_special_tokens=not special, clean_up_tokenization_spaces=False))
        for token in special:
            text = text.replace(self._special[token], "\n")
        return text

    def _holds_stop(self, ids: Sequence[int]) -> bool:
        return self._stop_at(self._decode(ids)) is not None

    def _stop_at(self, text: str) -> int | None:
        """Return where the first stop text begins, or None."""
        begin = len(text) - len(text.lstrip())
        found = [text.find(stop, begin if stop.isspace() else 0) for stop in self.stops]
        return min((at for at in found if at >= 0), default=None)
