"""Order for what is attended to: a set of source tokens without it is a bag."""

import math

import torch
from torch import Tensor


def sinusoids(tokens: Tensor) -> Tensor:
    """Sines and cosines of each token's place (Vaswani et al. 2017), (B, S, w) -> (S, w), RMS 0.7."""
    length, width = tokens.shape[1:]
    half = (width + 1) // 2
    rates = torch.exp(-math.log(1e4) * torch.arange(half, device=tokens.device) / half)  # (half,)
    angles = torch.arange(length, device=tokens.device)[:, None] * rates  # (S, half)
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :width].to(tokens.dtype)  # (S, w)
