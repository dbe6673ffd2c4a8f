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


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """Causal attention of the last T of L positions.

    Without past and mask the causality is left to the kernel, which then knows groups as well.

    Args:
        q: (B, h, T, D).
        k: (B, h_kv, L, D).
        v: (B, h_kv, L, D).
        scale: factor on the scores.
        mask: (B, T), 1 on real tokens among the last T positions, or None where pads lie on the right alone.

    Returns:
        (B, T, h, D).
    """
    T, L, groups = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    if T == L and mask is None:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=groups > 1)  # (B, h, T, D)
        return y.transpose(1, 2)
    allowed = torch.ones(T, L, dtype=torch.bool, device=q.device).tril(L - T)  # (T, L)
    if mask is not None:
        real = F.pad(mask.bool(), (L - T, 0), value=True)[:, None, None]  # (B, 1, 1, L)
        # A pad on the left would see nothing at all, whose softmax is no number.
        allowed = (allowed & real) | ~real.transpose(-1, -2)[:, :, L - T :]  # (B, 1, T, L)
    B, h, _, D = q.shape
    together = q.reshape(B, h // groups, groups * T, D)  # (B, h_kv, g T, D), the group's heads behind each other
    allowed = allowed.repeat(*[1] * (allowed.dim() - 2), groups, 1)  # (..., g T, L)
    y = F.scaled_dot_product_attention(together, k, v, attn_mask=allowed, scale=scale)  # (B, h_kv, g T, D)
    return y.reshape(B, h, T, D).transpose(1, 2)


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
