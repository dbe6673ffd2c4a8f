"""What an injection that writes into the target's cache gives each row: keys and values, and the text after them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.row_prefix import RowPrefix
from ray_bridge.models.soft_context import SoftContext


@dataclass(frozen=True, kw_only=True)
class WrittenCache:
    """The start of B rows as keys and values.

    Attributes:
        prefix: the keys and values.
        rows: what is read after them.
        positions: (B,), positions of the text that the keys and values stand for, by which what follows is numbered.
    """

    prefix: RowPrefix
    rows: Sequence[Row]
    positions: Tensor


class CacheWriter(Protocol):
    """Makes the start of rows' caches; it is also an `nn.Module`."""

    def __call__(self, lm: FrozenLM, rows: Sequence[Row], soft: SoftContext) -> WrittenCache:
        """Return keys and values before each row, and what of it is read after them.

        Args:
            lm: the target.
            rows: B rows, with their answers in training.
            soft: what is transferred to each of them.
        """

    def rehearse(self, tokens: Tensor) -> None:
        """Compute what the writer adds to one question, for a count of its FLOPs."""
