"""Attention that reads keys and values once a group of query heads, instead of repeating them for every head.

In a decode step the keys and values are nearly all that is read, so repeating them four times (Llama-3.1-8B: 32 query
heads over 8) makes the step several times slower. Here the query heads that share a key head stand side by side as the
query positions of one product. Registered with transformers under `NAME`, so that any model that takes its attention
from there (llama, mistral, qwen2, gpt_neox ...) can use it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.gpu.kernels import prefix_attention
from ray_bridge.models.prefix_cache import Prefix

NAME = "ray_bridge_grouped"


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention of one new token a row over a cache.

    Args:
        q: (B, h, 1, D).
        k: (B, h_kv, L, D), h a multiple of h_kv.
        v: (B, h_kv, L, D).
        mask: (B, 1, 1, L) bool, True where a row may look, or an additive mask of that shape, or None.
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
    """Softmax over the last dimension in fp32 or wider, in the scores' dtype."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return torch.softmax(scores, -1, dtype=wide).to(scores.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention without a past, (B, h, T, D), (B, h_kv, T, D) twice -> (B, T, h, D).

    Causality is left to the kernel, which then knows groups as well.
    """
    groups = q.shape[1] // k.shape[1]
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=groups > 1)  # (B, h, T, D)
    return y.transpose(1, 2)


def group_mask(T: int, L: int, groups: int, real: Tensor | None, like: Tensor) -> Tensor:
    """The additive mask of `masked_attention`, made once for all layers.

    Args:
        T: queries, the last of L positions.
        L: positions.
        groups: query heads on one key head.
        real: (B, T), 1 on real tokens among the last T positions, or None where pads lie on the right alone.
        like: gives device and dtype.

    Returns:
        (1 or B, 1, groups * T, L), 0 where a query may look.
    """
    seen = torch.ones(T, L, dtype=torch.bool, device=like.device).tril(L - T)[None, None]  # (1, 1, T, L)
    if real is not None:
        open_to = F.pad(real.bool(), (L - T, 0), value=True)[:, None, None]  # (B, 1, 1, L)
        # A pad on the left would see nothing at all, whose softmax is no number.
        seen = (seen & open_to) | ~real.bool()[:, None, :, None]  # (B, 1, T, L)
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(~seen, float("-inf"))
    return mask.repeat(1, 1, groups, 1)  # (1 or B, 1, g T, L)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attention under `group_mask` without repeated keys: a group's queries stand behind each other.

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
    y = F.scaled_dot_product_attention(together, k, v, attn_mask=mask, scale=scale)  # (B, h_kv, g T, D)
    return y.reshape(B, h, T, D).transpose(1, 2)


class AttendBehind:
    """How fused layers attend: to their own tokens, and to a prefix that all rows see before them.

    Args:
        prefix: or None.
        real: (B, T), 1 on real tokens, or None where pads lie on the right alone and so hide themselves.
        scale: factor on the scores.
    """

    def __init__(self, prefix: Prefix | None, real: Tensor | None, scale: float) -> None:
        self.prefix, self.real, self.scale = prefix, real, scale
        self.mask: Tensor | None = None

    def prefix_states(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values (H, h_kv, D) of the prefix."""
        return None if self.prefix is None else self.prefix.by_place(layer)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Q (B, T, h, D), k and v (B, H + T, h_kv, D) -> (B, T, h, D)."""
        plain_causal = self.real is None
        half = q.is_cuda and q.dtype.itemsize == 2
        if plain_causal and half and self.prefix is not None:
            geometry = (q.device, q.dtype, q.shape[2], k.shape[2], q.shape[3])
            if prefix_attention.usable(*geometry):
                return prefix_attention.attend_after_prefix(q, k, v, self.scale)  # (B, T, h, D)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, h, T, D), (B, h_kv, H + T, D) twice
        if plain_causal and self.prefix is None:
            return causal_attention(q, k, v, self.scale)  # (B, T, h, D)
        T, L, groups = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
        if plain_causal and half:
            # The flash kernel knows a causal mask whose last row ends at the last key, and groups. Imported late:
            # with it comes torch's compiler, which takes seconds.
            from torch.nn.attention.bias import causal_lower_right

            mask = causal_lower_right(T, L)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale, enable_gqa=groups > 1)
            return y.transpose(1, 2)  # (B, T, h, D)
        if self.mask is None:
            self.mask = group_mask(T, L, groups, self.real, q)
        return masked_attention(q, k, v, self.mask, self.scale)  # (B, T, h, D)


def _interface(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """The form in which transformers calls an attention."""
    if query.shape[2] == 1:
        scale = settings.get("scaling") or query.shape[-1] ** -0.5
        return grouped_attention(query, key, value, attention_mask, scale), None
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)


@contextmanager
def use_grouped_attention(model: Any) -> Iterator[None]:
    """Within it, a transformers model attends through `NAME`."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _interface)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
