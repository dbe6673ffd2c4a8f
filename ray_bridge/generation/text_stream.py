"""Turn tokens into text as they come, without showing what may still be cut or change."""

from collections.abc import Sequence

from ray_bridge.generation.stopping import Stopping


class TextStream:
    """Give the text of one row in pieces whose concatenation is exactly `Stopping.text` of all its tokens.

    Held back are characters that are not complete yet, white space that may be cut, and the beginning of a stop text.

    Args:
        stopping: what ends the row.
    """

    def __init__(self, stopping: Stopping) -> None:
        self.stopping = stopping
        self.ids: list[int] = []
        self._sent = ""

    def push(self, tokens: Sequence[int]) -> str:
        """Add tokens and return the text that is certain by now and was not returned before."""
        self.ids += tokens
        text = self.stopping.text(self.stopping.settled(self.ids))
        return self._send(text[: self._certain(text)])

    def close(self) -> str:
        """Return the rest of the text, once no more tokens come."""
        return self._send(self.stopping.text(self.stopping.cut(self.ids)[0]))

    def _send(self, text: str) -> str:
        if not text.startswith(self._sent):
            raise ValueError(f"{self._sent[-20:]!r} was certain, and the text became {text[-40:]!r}")
        new = text[len(self._sent) :]
        self._sent = text
        return new

    def _certain(self, text: str) -> int:
        """Return how many characters of a text cannot change when more tokens come."""
        whole = len(text.rstrip("\ufffd"))  # the first bytes of a character are decoded as replacements
        begun = [
            size
            for stop in self.stopping.stops
            for size in range(1, min(len(stop) - 1, whole) + 1)
            if text[whole - size : whole] == stop[:size]
        ]
        return max(whole - max(begun, default=0), len(self._sent))
