"""Keys and values of the text that opens every row (BOS and few-shot header), computed once and reused.

What opens a sequence does not depend on what follows, so a header of 1,300 tokens need not be read again for every
row, step and evaluation: not by the source, not by the teacher, and with `soft_position = before_question` not by the
student either. It carries no gradient. The tokens after it attend to it as if it had just been read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.models.windows import PREFIX_FAMILIES, attends_fully, layer_windows


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

    per_row: ClassVar[bool] = False
    """Whether rows have keys and values of their own; see `RowPrefix`."""

    def __len__(self) -> int:
        return len(self.ids)

    def by_position(self, layer: int, window: int | None = None) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values with the position as first dimension, (H, h_kv, D) each, contiguous.

        Args:
            layer: the layer's number, from 0.
            window: positions that the layer sees, of which the prefix can hold all but one; None for all.
        """
        if layer not in self.transposed:
            keys, values = (x[layer][0].transpose(0, 1).contiguous() for x in (self.keys, self.values))
            self.transposed[layer] = (keys, values)
        keys, values = self.transposed[layer]
        first = 0 if window is None else max(0, len(keys) - window + 1)
        return keys[first:], values[first:]

    def cover(self, mask: Tensor) -> Tensor:
        """Return the mask of the prefix and of the rows' own tokens, (B, T) -> (B, H + T)."""
        return F.pad(mask, (len(self), 0), value=1)

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
        """Return keys and values with those of the prefix first, (B, h_kv, H + T, D) each, and store nothing."""
        return self.prefix.prepend(layer_idx, keys, values)

    def get_seq_length(self, _layer_idx: int = 0) -> int:
        """Return the length of the prefix."""
        return len(self.prefix)


def can_cache(config: Any) -> bool:
    """Return whether a header's keys and values can be read once: layers see all positions, or a window of them."""
    return attends_fully(config) or (layer_windows(config) is not None and config.model_type in PREFIX_FAMILIES)


def read_prefix(model: Any, ids: tuple[int, ...], device: torch.device) -> Prefix:
    """Run a transformers model on the ids and return its keys and values, of layers with a window too.

    They are computed in the model's own precision, whoever asks first: in a training step autocast is on.
    """
    from transformers import DynamicCache

    cache = DynamicCache()  # without a config, it keeps all positions of every layer
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        model.base_model(input_ids=torch.tensor([ids], device=device), past_key_values=cache, use_cache=True)
    keys = [layer.keys.contiguous() for layer in cache.layers]
    values = [layer.values.contiguous() for layer in cache.layers]
    return Prefix(ids=ids, keys=keys, values=values)


def causal_masks(real: Tensor, T: int, dtype: torch.dtype, config: Any) -> Tensor | dict[str, Tensor]:
    """Return the additive causal mask of the last T positions, or one for each type of layer if some have a window.

    Args:
        real: (B, L), 1 on real tokens, those of a prefix included.
        T: positions that attend.
        dtype: of the result.
        config: the text model's.
    """
    types = getattr(config, "layer_types", None)
    if attends_fully(config, real.shape[1]):
        return additive_mask(real, T, dtype)
    if not types:
        return additive_mask(real, T, dtype, config.sliding_window)
    windows = {"full_attention": None, "sliding_attention": config.sliding_window}
    return {kind: additive_mask(real, T, dtype, windows[kind]) for kind in set(types)}


def additive_mask(real: Tensor, T: int, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """Return the additive causal mask of the last T of L positions, (B, 1, T, L), 0 where they may attend.

    Args:
        real: (B, L), 1 on real tokens.
        T: positions that attend.
        dtype: of the result.
        window: positions that a token sees, its own included; None for all.
    """
    seen = visible(real, T, window)  # (B, 1, T, L)
    return torch.zeros(seen.shape, dtype=dtype, device=real.device).masked_fill(~seen, torch.finfo(dtype).min)


def visible(real: Tensor, T: int, window: int | None) -> Tensor:
    """Return which of L positions the last T see, (B, 1, T, L) bool; see `additive_mask`."""
    L = real.shape[1]
    causal = torch.ones(T, L, dtype=torch.bool, device=real.device).tril(L - T)  # (T, L)
    seen = causal & real[:, None, None].bool()  # (B, 1, T, L)
    if window is None:
        return seen
    # Windows count tokens: pads between a prefix and a row's own tokens must not use up any of it.
    at = count_positions(real)  # (B, L)
    return seen & (at[:, L - T :, None] - at[:, None] < window)[:, None]


def count_positions(mask: Tensor) -> Tensor:
    """Return positions that count real tokens only, (B, L) -> (B, L); leading pads get 0."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
