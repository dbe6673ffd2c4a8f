"""Where a generated text ends: at an end-of-text id of the model, or once it holds one of the task's stop texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ray_bridge.models.frozen_lm import FrozenLM


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
        window = new + max(len(stop.encode()) for stop in self.stops) + 1  # a token is a byte of a stop text at least
        tail = self._decode(ids[-window:])
        return any(stop in tail for stop in self.stops) and self._stop_at(self._decode(ids)) is not None

    def cut(self, ids: Sequence[int]) -> tuple[list[int], bool]:
        """Cut ids after the first that ends the text or completes a stop text.

        Longer ids are cut at the same place, so the result does not depend on how often a decoder checks.

        Returns:
            The ids, that one included, and whether the text ended there.
        """
        kept, ended = self._until_end(ids)
        if self._stop_at(self._decode(kept)) is None:
            return kept, ended
        low, high = 1, len(kept)  # a text that holds a stop text holds it in all its continuations
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._stop_at(self._decode(kept[:middle])) is None else (low, middle)
        return kept[:low], True

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids up to where it ends, without end-of-text ids and stop texts."""
        text = self._decode(self._until_end(ids)[0])
        return text[: self._stop_at(text)]

    def has_ended(self, ids: Sequence[int]) -> bool:
        """Return whether a decoded text ended by itself, and not at the limit of new tokens."""
        return self._until_end(ids)[1] or self._stop_at(self._decode(ids)) is not None

    def _until_end(self, ids: Sequence[int]) -> tuple[list[int], bool]:
        """Return the ids up to the first that ends the text, and whether there is one."""
        end = next((at for at, token in enumerate(ids) if token in self.ends), None)
        return (list(ids), False) if end is None else (list(ids[: end + 1]), True)

    def _decode(self, ids: Sequence[int]) -> str:
        kept = [token for token in ids if token not in self.ends]  # some are no special tokens of their tokenizer
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _stop_at(self, text: str) -> int | None:
        """Return where the first stop text begins, or None."""
        begin = len(text) - len(text.lstrip())
        found = [text.find(stop, begin if stop.isspace() else 0) for stop in self.stops]
        return min((at for at in found if at >= 0), default=None)
