"""Keys and values of the text that opens every row (BOS and few-shot header), computed once and reused.

What opens a sequence does not depend on what follows, so a header of 1,300 tokens need not be read again for every
row, step and evaluation: not by the source, not by the teacher, and with `soft_position = before_question` not by the
student either. It carries no gradient. The tokens after it attend to it as if it had just been read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Keys and values of the first H tokens.

    Attributes:
        ids: the tokens, BOS first.
        keys: (1, h_kv, H, D) of each layer, rotated.
        values: (1, h_kv, H, D) of each layer.
        transposed: by layer, the results of `by_position`.
    """

    ids: tuple[int, ...]
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    transposed: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def by_position(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values with the position as first dimension, (H, h_kv, D) each, contiguous."""
        if layer not in self.transposed:
            keys, values = (x[layer][0].transpose(0, 1).contiguous() for x in (self.keys, self.values))
            self.transposed[layer] = (keys, values)
        return self.transposed[layer]

    def prepend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put the prefix's keys and values before a layer's own, (B, h_kv, T, D) -> (B, h_kv, H + T, D) each."""
        own = [x[layer].expand(len(k), -1, -1, -1) for x in (self.keys, self.values)]  # (B, h_kv, H, D) each
        return torch.cat([own[0], k], 2), torch.cat([own[1], v], 2)


class PrefixAsCache:
    """A prefix with the interface of transformers' caches, which does not store the layers' own keys and values.

    So a layer that is run again in the backward pass sees the same prefix; a cache that grows would have changed.
    """

    is_compileable = False

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values after those of the prefix; nothing is stored."""
        return self.prefix.prepend(layer_idx, keys, values)

    def get_seq_length(self, _layer_idx: int = 0) -> int:
        """Return the length of the prefix."""
        return len(self.prefix)


def attends_fully(config: Any) -> bool:
    """Return whether every layer attends to all earlier positions: no window is shorter than the longest sequence."""
    types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if types - {"full_attention", "sliding_attention"}:
        return False
    window = getattr(config, "sliding_window", None)
    if "sliding_attention" not in types and getattr(config, "layer_types", None):
        return True
    return window is None or window >= config.max_position_embeddings


def read_prefix(model: Any, ids: tuple[int, ...], device: torch.device) -> Prefix:
    """Run a transformers model on the ids and return its keys and values."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model.base_model(input_ids=torch.tensor([ids], device=device), past_key_values=cache, use_cache=True)
    keys = [layer.keys.contiguous() for layer in cache.layers]
    values = [layer.values.contiguous() for layer in cache.layers]
    return Prefix(ids=ids, keys=keys, values=values)


def additive_mask(mask: Tensor, past: int, dtype: torch.dtype) -> Tensor:
    """Return the additive causal mask of tokens after a prefix.

    Args:
        mask: (B, T), 1 on real tokens.
        past: positions of the prefix, which all rows see.
        dtype: of the result.

    Returns:
        (B, 1, T, past + T).
    """
    T = mask.shape[1]
    causal = torch.ones(T, T, dtype=torch.bool, device=mask.device).tril()  # (T, T)
    own = causal & mask[:, None, None, :].bool()  # (B, 1, T, T)
    seen = torch.cat([own.new_ones(*own.shape[:3], past), own], -1)  # (B, 1, T, past + T)
    return torch.zeros(seen.shape, dtype=dtype, device=mask.device).masked_fill(~seen, torch.finfo(dtype).min)
