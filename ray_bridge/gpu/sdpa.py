"""PyTorch's attention without the gradients that cuDNN gets wrong.

With torch 2.11 to 2.13 on Hopper, cuDNN's backward pass gives NaN in the queries' gradient if the number of keys is 64
more than a multiple of 128, all scores of a query are below about -88, and attention is not causal by its flag: the
unused half of the last tile of 128 keys counts as scores of 0, and exp(0 - logsumexp) overflows. The values are right
(https://github.com/pytorch/pytorch/issues/196678). K = 64 soft tokens that attend to each other are such a case, and
training on random weights of the paper's geometry got there after 70 to 140 steps.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

TILE = 128
PADDING = 8
"""Keys that are added where the number of keys is one of those; kernels ask for masks in multiples of 8."""


def gradient_fails(like: Tensor, keys: int) -> bool:
    """Return whether cuDNN may give NaN gradients for a number of keys, in the dtype and on the device of a tensor."""
    half = like.is_cuda and (like.dtype.itemsize == 2 or torch.is_autocast_enabled("cuda"))
    return half and torch.is_grad_enabled() and keys % TILE == TILE // 2


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """Compute `scaled_dot_product_attention` with gradients that are right.

    Args:
        q: (B, h, T, D).
        k: (B, h, L, D).
        v: (B, h, L, D).
        mask: broadcasts to (B, h, T, L): bool, True where a query may attend, or additive; None for all.
        scale: factor on the scores; 1 / sqrt(D) by default.

    Returns:
        (B, h, T, D).
    """
    if not gradient_fails(q, k.shape[-2]):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    if mask is None:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            return F.scaled_dot_product_attention(q, k, v, scale=scale)
    hidden = False if mask.dtype == torch.bool else float("-inf")
    k, v = (F.pad(x, (0, 0, 0, PADDING)) for x in (k, v))  # (B, h, L + 8, D)
    mask = F.pad(mask.expand(*mask.shape[:-1], k.shape[-2] - PADDING), (0, PADDING), value=hidden)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def pad_rows(embeds: Tensor, mask: Tensor, positions: Tensor, before: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs of a model whose own layers attend, with pads at the end where the gradient would fail.

    Args:
        embeds: (B, L, d).
        mask: (B, L), 1 on real tokens.
        positions: (B, L).
        before: keys before each row.

    Returns:
        The same, or each with L + 8 in place of L.
    """
    if not gradient_fails(embeds, before + embeds.shape[1]):
        return embeds, mask, positions
    return F.pad(embeds, (0, 0, 0, PADDING)), F.pad(mask, (0, PADDING)), F.pad(positions, (0, PADDING))
