"""Keys and values of the text that opens every row (BOS and few-shot header), computed once and reused.

What opens a sequence does not depend on what follows, so a header of 1,300 tokens need not be read again for every
row, step and evaluation: not by the source, not by the teacher, and with `soft_position = before_question` not by the
student either. It carries no gradient; what follows attends to it as if it had been there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """States of the first H tokens.

    Attributes:
        ids: the tokens, BOS first.
        keys: (1, h_kv, H, D) of each layer, rotated.
        values: (1, h_kv, H, D) of each layer.
        places: what `by_place` has made.
    """

    ids: tuple[int, ...]
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    places: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def by_place(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer with the place first, (H, h_kv, D) each, contiguous."""
        if layer not in self.places:
            keys, values = (x[layer][0].transpose(0, 1).contiguous() for x in (self.keys, self.values))
            self.places[layer] = (keys, values)
        return self.places[layer]

    def joined(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer with the prefix before them, (B, h_kv, T, D) -> (B, h_kv, H + T, D)."""
        before = [x[layer].expand(len(k), -1, -1, -1) for x in (self.keys, self.values)]  # (B, h_kv, H, D) each
        return torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)


class PrefixStates:
    """What transformers' layers take for a cache: the prefix before their own keys and values, nothing kept.

    A layer that is run again in the backward pass finds it as it was, which a cache that grows would not be.
    """

    is_compileable = False

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self.prefix.joined(layer_idx, keys, values)

    def get_seq_length(self, _layer_idx: int = 0) -> int:
        return len(self.prefix)


def attends_fully(config: Any) -> bool:
    """Whether every layer sees all positions before it: no windows, or none shorter than the longest sequence."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds - {"full_attention", "sliding_attention"}:
        return False
    window = getattr(config, "sliding_window", None)
    if "sliding_attention" not in kinds and getattr(config, "layer_types", None):
        return True
    return window is None or window >= config.max_position_embeddings


def read_prefix(model: Any, ids: tuple[int, ...], device: torch.device) -> Prefix:
    """Run a transformers model on the ids and keep its keys and values."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model.base_model(input_ids=torch.tensor([ids], device=device), past_key_values=cache, use_cache=True)
    keys, values = (
        [x.contiguous() for x in kind] for kind in zip(*((c.keys, c.values) for c in cache.layers), strict=True)
    )
    return Prefix(ids=ids, keys=keys, values=values)


def additive_mask(mask: Tensor, past: int, dtype: torch.dtype) -> Tensor:
    """Causal mask of (B, T) real tokens behind `past` positions that all rows see, (B, 1, T, past + T)."""
    T = mask.shape[1]
    causal = torch.ones(T, T, dtype=torch.bool, device=mask.device).tril()  # (T, T)
    own = causal & mask[:, None, None, :].bool()  # (B, 1, T, T)
    seen = torch.cat([own.new_ones(*own.shape[:3], past), own], -1)  # (B, 1, T, past + T)
    return torch.zeros(seen.shape, dtype=dtype, device=mask.device).masked_fill(~seen, torch.finfo(dtype).min)
