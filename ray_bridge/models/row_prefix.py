"""Keys and values that come before each row's own text in every layer, different from row to row.

Fused layers, CUDA graphs and the shared few-shot header are made for a prefix that all rows share, so rows with keys
and values of their own are read by transformers' own layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import Prefix


@dataclass(frozen=True, kw_only=True)
class RowPrefix(Prefix):
    """Keys and values before each of B rows.

    Attributes:
        ids: empty: what is here is no text that rows share.
        keys: (B, h_kv, H, D) of each layer.
        values: (B, h_kv, H, D) of each layer.
        mask: (B, H), 1 on those that are there.
    """

    ids: tuple[int, ...] = ()
    mask: Tensor

    per_row = True

    def __len__(self) -> int:
        return self.mask.shape[1]

    def cover(self, mask: Tensor) -> Tensor:
        """Return the mask of these keys and of the rows' own tokens, (B, T) -> (B, H + T)."""
        return torch.cat([self.mask, mask], 1)


@torch.no_grad()
def read_rows(
    lm: FrozenLM, rows: Sequence[Sequence[int]], length: int | None = None
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Read rows of token ids with transformers' own layers.

    Args:
        lm: the model.
        rows: B rows.
        length: of the result; by default the longest row's.

    Returns:
        Keys and values (B, h_kv, L, D) of each layer, and the mask (B, L); pads are on the right.
    """
    from transformers import DynamicCache

    length = max(map(len, rows)) if length is None else length
    lm.check_length(length, "a row of text")
    ids = torch.tensor([[*row, *[lm.pad] * (length - len(row))] for row in rows], device=lm.device)  # (B, L)
    real = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=lm.device)  # (B, L)
    cache = DynamicCache()
    lm.run_transformers(None, input_ids=ids, attention_mask=real, past_key_values=cache, use_cache=True)
    return [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers], real
