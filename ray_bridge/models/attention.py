"""Attention that reads keys and values once for a group of query heads, instead of repeating them for every head.

In a decode step keys and values are nearly all that is read, so repeating them four times (Llama-3.1-8B: 32 query heads
on 8 key heads) makes the step several times slower. Here the query heads that share a key head become query positions
of one matrix product. It is registered with transformers under `NAME`, for any model that looks its attention up there
(llama, mistral, qwen2, gpt_neox ...).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.gpu.kernels import prefix_attention
from ray_bridge.gpu.sdpa import attend
from ray_bridge.models.prefix_cache import Prefix, visible

NAME = "ray_bridge_grouped"


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attend with one new token a row to a cache.

    Args:
        q: (B, h, 1, D).
        k: (B, h_kv, L, D), h a multiple of h_kv.
        v: (B, h_kv, L, D).
        mask: (B, 1, 1, L) bool, True where a row may attend, or an additive mask of that shape, or None.
        scale: factor on the scores.

    Returns:
        (B, 1, h, D).
    """
    B, h, _, D = q.shape
    kv = k.shape[1]
    grouped = q.view(B, kv, h // kv, D)  # (B, h_kv, g, D)
    scores = grouped @ k.transpose(-1, -2) * scale  # (B, h_kv, g, L)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = softmax(scores)  # (B, h_kv, g, L)
    return (weights @ v).view(B, 1, h, D)  # (B, 1, h, D)


def softmax(scores: Tensor) -> Tensor:
    """Compute the softmax over the last dimension in fp32 or wider; return it in the scores' dtype."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return torch.softmax(scores, -1, dtype=wide).to(scores.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend causally without a past; PyTorch's kernel applies the mask and shares keys within groups.

    Args:
        q: (B, h, T, D).
        k: (B, h_kv, T, D).
        v: (B, h_kv, T, D).
        scale: factor on the scores.

    Returns:
        (B, T, h, D).
    """
    groups = q.shape[1] // k.shape[1]
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=groups > 1)  # (B, h, T, D)
    return y.transpose(1, 2)


def group_mask(T: int, L: int, groups: int, real: Tensor | None, like: Tensor, window: int | None = None) -> Tensor:
    """Return the additive mask of `masked_attention`, the same for all layers with one window.

    Args:
        T: queries, the last of L positions.
        L: positions.
        groups: query heads on one key head.
        real: (B, T), 1 on real tokens among the last T positions, or None if all pads are on the right.
        like: a tensor with the mask's device and dtype.
        window: positions that a query sees, its own included; None for all.

    Returns:
        (1 or B, 1, groups * T, L), 0 where a query may attend.
    """
    own = torch.ones(1, T, dtype=torch.long, device=like.device) if real is None else real  # (1 or B, T)
    seen = visible(F.pad(own, (L - T, 0), value=1), T, window)  # (1 or B, 1, T, L)
    if real is not None:
        # A pad on the left would see no position at all, and its softmax would be NaN.
        seen = seen | ~real.bool()[:, None, :, None]  # (B, 1, T, L)
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(~seen, float("-inf"))
    return mask.repeat(1, 1, groups, 1)  # (1 or B, 1, g T, L)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attend under `group_mask` without repeating keys: the query heads of a group become further query positions.

    Args:
        q: (B, h, T, D).
        k: (B, h_kv, L, D).
        v: (B, h_kv, L, D).
        mask: (1 or B, 1, g T, L), additive.
        scale: factor on the scores.

    Returns:
        (B, T, h, D).
    """
    B, h, T, D = q.shape
    together = q.reshape(B, k.shape[1], -1, D)  # (B, h_kv, g T, D)
    y = attend(together, k, v, mask=mask, scale=scale)  # (B, h_kv, g T, D)
    return y.reshape(B, h, T, D).transpose(1, 2)


class AttendAfterPrefix:
    """Attention of fused layers: causal over each row's own tokens, and over a prefix that all rows share.

    Queries are those of all of a row's own tokens, or of the last ones where no gradient of a prefix's kernel is lost:
    in half precision that kernel gives none to keys before the first query.

    Args:
        prefix: states of the prefix, or None.
        real: (B, T), 1 on real tokens, or None if all pads are on the right, where causality alone hides them.
        scale: factor on the scores.
        windows: positions that each layer sees, its own included, None for all.
    """

    def __init__(self, prefix: Prefix | None, real: Tensor | None, scale: float, windows: Sequence[int | None]) -> None:
        self.prefix, self.real, self.scale, self.windows = prefix, real, scale, windows
        self.masks: dict[tuple[int, int, int | None], Tensor] = {}

    def prefix_states(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return keys and values of the prefix that the layer sees, (H, h_kv, D) each, or None without a prefix."""
        return None if self.prefix is None else self.prefix.by_position(layer, self.windows[layer])

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend, q (B, T, h, D), the last T of the positions of k and v, (B, L, h_kv, D) -> (B, T, h, D)."""
        window = self.windows[layer]
        if window is not None and window >= k.shape[1]:
            window = None  # the layer sees all that there is
        causal_only = self.real is None and window is None
        half = q.is_cuda and q.dtype.itemsize == 2
        if causal_only and half and self.prefix is not None:
            geometry = (q.device, q.dtype, q.shape[2], k.shape[2], q.shape[3])
            if prefix_attention.usable(*geometry):
                return prefix_attention.attend_after_prefix(q, k, v, self.scale)  # (B, T, h, D)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, h, T, D), (B, h_kv, L, D) twice
        if causal_only and q.shape[2] == k.shape[2]:
            return causal_attention(q, k, v, self.scale)  # (B, T, h, D)
        T, L, groups = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
        if causal_only and half:
            # The flash kernel supports groups, and a causal mask whose last row ends at the last key. Imported late:
            # it imports PyTorch's compiler, which takes seconds.
            from torch.nn.attention.bias import causal_lower_right

            mask = causal_lower_right(T, L)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale, enable_gqa=groups > 1)
            return y.transpose(1, 2)  # (B, T, h, D)
        if (T, L, window) not in self.masks:
            self.masks[T, L, window] = group_mask(T, L, groups, self.real, q, window)
        return masked_attention(q, k, v, self.masks[T, L, window], self.scale)  # (B, T, h, D)


def capped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float) -> Tensor:
    """Attend with scores that approach a bound, cap x tanh(score / cap) (Gemma 2), which PyTorch's kernels lack.

    Args:
        q: (B, h, T, D).
        k: (B, h_kv, L, D), h a multiple of h_kv.
        v: (B, h_kv, L, D).
        mask: (B, 1, T, L) bool, True where a query may attend, or additive, or None for causal attention.
        scale: factor on the scores.
        cap: the bound.

    Returns:
        (B, T, h, D).
    """
    B, h, T, D = q.shape
    kv, L = k.shape[1:3]
    grouped = q.view(B, kv, h // kv, T, D)  # (B, h_kv, g, T, D)
    scores = torch.tanh(grouped @ k[:, :, None].transpose(-1, -2) * (scale / cap)) * cap  # (B, h_kv, g, T, L)
    if mask is None:
        mask = torch.ones(T, L, dtype=torch.bool, device=q.device).tril(L - T)[None, None]  # (1, 1, T, L)
    mask = mask[:, :, None]  # (B, 1, 1, T, L)
    # Not minus infinity: a pad on the left sees no position at all, and its softmax would be NaN.
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask
    return (softmax(scores) @ v[:, :, None]).view(B, h, T, D).transpose(1, 2)  # (B, T, h, D)


def _interface(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Adapt this module's attention to the signature by which transformers calls an attention function."""
    scale, cap = settings.get("scaling") or query.shape[-1] ** -0.5, settings.get("softcap")
    if cap is not None:
        return capped_attention(query, key, value, attention_mask, scale, cap), None
    if query.shape[2] == 1:
        return grouped_attention(query, key, value, attention_mask, scale), None
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)


def set_attention(model: Any) -> str:
    """Have a transformers model use this module's attention; return the name of what it used before."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _interface)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    config = model.config.get_text_config()
    before: str = config._attn_implementation
    config._attn_implementation = NAME
    return before


@contextmanager
def use_grouped_attention(model: Any) -> Iterator[None]:
    """Let a transformers model use the attention registered as `NAME` while the body runs."""
    before = set_attention(model)
    try:
        yield
    finally:
        model.config.get_text_config()._attn_implementation = before
