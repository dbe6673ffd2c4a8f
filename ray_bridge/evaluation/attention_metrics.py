"""How spread out attention weights are, against the weights of a reader that reads all tokens alike."""

import torch
from torch import Tensor


def entropies(weights: Tensor) -> Tensor:
    """Return the entropy in nats of distributions over the last axis, (..., n) -> (...)."""
    return torch.special.entr(weights).sum(-1)


def uniform_entropies(mask: Tensor) -> Tensor:
    """Return the entropy in nats of equal weights on the tokens of a mask, (B, n) -> (B,); of two for fewer."""
    return mask.sum(1).clamp(min=2).float().log()


def shares_by_head(weights: Tensor, mask: Tensor) -> Tensor:
    """Return each head's entropy as a share of that of equal weights: 1 reads all tokens alike, 0 a single one.

    Args:
        weights: (B, heads, ..., n), distributions over tokens.
        mask: (B, n), 1 on tokens that may be read.

    Returns:
        (heads,), means over everything else.
    """
    uniform = uniform_entropies(mask).to(weights)  # (B,)
    shares = entropies(weights) / uniform.view(-1, *[1] * (weights.dim() - 2))  # (B, heads, ...)
    return shares.transpose(0, 1).flatten(1).mean(1)  # (heads,)
