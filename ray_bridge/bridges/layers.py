"""Layers that bridges share."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def time_features(t: Tensor, width: int) -> Tensor:
    """Sinusoidal features of a time in [0, 1], (B,) -> (B, width)."""
    half = width // 2
    rates = torch.exp(-math.log(1e4) * torch.arange(half, device=t.device, dtype=t.dtype) / half)  # (half,)
    angles = 1000 * t[:, None] * rates  # (B, half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], -1), (0, width - 2 * half))  # (B, width)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN: (B, K, w) with shift and scale (B, w)."""
    return x * (1 + scale[:, None]) + shift[:, None]


class Attention(nn.Module):
    """Multi-head attention of slots over themselves, or over a given sequence."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x (B, K, w), context (B, S, w) with mask (B, S) -> (B, K, w)."""
        over = x if context is None else context
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, K, w/h)
        k, v = self.key_value(over).unflatten(-1, (2, self.heads, -1)).transpose(1, 3).unbind(2)  # (B, h, S, w/h)
        allowed = None if mask is None else mask[:, None, None, :].bool()  # (B, 1, 1, S)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)  # (B, h, K, w/h)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, K, w)


def sinusoids(tokens: Tensor) -> Tensor:
    """Sines and cosines of each token's place (Vaswani et al. 2017), (B, S, w) -> (S, w), RMS 0.7."""
    length, width = tokens.shape[1:]
    half = (width + 1) // 2
    rates = torch.exp(-math.log(1e4) * torch.arange(half, device=tokens.device) / half)  # (half,)
    angles = torch.arange(length, device=tokens.device)[:, None] * rates  # (S, half)
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :width].to(tokens.dtype)  # (S, w)


class ExactScale(nn.Module):
    """Rescales each token to a given root mean square, times one learned gain that starts at 1."""

    def __init__(self, rms: float) -> None:
        super().__init__()
        self.rms: Tensor
        self.register_buffer("rms", torch.tensor(rms), persistent=False)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        """(B, K, d_t) -> (B, K, d_t), each token's RMS equal to rms * |gain|."""
        size = z.pow(2).mean(-1, keepdim=True).sqrt()  # (B, K, 1)
        return z * (self.rms * self.gain / size)  # (B, K, d_t)
