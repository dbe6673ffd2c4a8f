"""Building blocks of bridges: attention, sinusoidal embeddings, adaLN modulation, and the scale of soft tokens."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.gpu.kernels import adaptive_norm
from ray_bridge.gpu.sdpa import attend


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Return sinusoidal features of a time in [0, 1], (B,) -> (B, width), as in DiT (Peebles & Xie 2023)."""
    half = width // 2
    rates = torch.exp(-math.log(1e4) * torch.arange(half, device=t.device, dtype=t.dtype) / half)  # (half,)
    angles = 1000 * t[:, None] * rates  # (B, half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], -1), (0, width - 2 * half))  # (B, width)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale normalised activations (adaLN): x (B, K, w), shift and scale (B, w) -> (B, K, w)."""
    return x * (1 + scale[:, None]) + shift[:, None]


class ResidualStream:
    """The slots' states between the sub-layers of a DiT, with the last sub-layer's update that is still to be added.

    Under autocast on a GPU adding it and reading the next sub-layer's input are one kernel.

    Args:
        x: (B, K, w).
        heads: attention heads of the network.
    """

    def __init__(self, x: Tensor, heads: int) -> None:
        self._x, self._heads = x, heads
        self._update: Tensor | None = None
        self._gate: Tensor | None = None

    def read(self, shift: Tensor, scale: Tensor) -> Tensor:
        """Return the normalised and modulated states, with shift and scale (B, w) -> (B, K, w)."""
        x, update, gate, self._update, self._gate = self._x, self._update, self._gate, None, None
        if x.is_cuda and torch.is_autocast_enabled("cuda"):
            dtype, width = torch.get_autocast_dtype("cuda"), x.shape[-1]
            if adaptive_norm.usable(x.device, dtype, self._heads, self._heads, width // self._heads):
                self._x, y = adaptive_norm.add_and_modulate(x, update, gate, shift, scale, dtype)
                return y
        if update is not None and gate is not None:
            self._x = x = x + gate[:, None] * update  # (B, K, w)
        return modulate(F.layer_norm(x, x.shape[-1:]), shift, scale)  # (B, K, w)

    def add(self, gate: Tensor, update: Tensor) -> None:
        """Add gate (B, w) times a sub-layer's update (B, K, w), which `read` has to follow."""
        if self._update is not None:
            raise RuntimeError("the last update has not been read")
        self._gate, self._update = gate, update


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) of slots over themselves, or over another sequence.

    Args:
        width: w, of inputs and outputs.
        heads: a divisor of it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: (B, K, w), from which queries are made.
            context: (B, S, w), from which keys and values are made; None for self-attention.
            mask: (B, S), 1 where attention is allowed; None allows it everywhere.

        Returns:
            (B, K, w).
        """
        keys_from = x if context is None else context
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, K, w/h)
        k, v = self.key_value(keys_from).unflatten(-1, (2, self.heads, -1)).transpose(1, 3).unbind(2)  # (B, h, S, w/h)
        allowed = None if mask is None else mask[:, None, None, :].bool()  # (B, 1, 1, S)
        y = attend(q, k, v, mask=allowed)  # (B, h, K, w/h)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, K, w)

    def weights(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Return the weights with which `forward` would read a context, (B, h, K, S), for diagnosis."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, K, w/h)
        k = self.key_value(context).unflatten(-1, (2, self.heads, -1)).transpose(1, 3)[:, :, 0]  # (B, h, S, w/h)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, h, K, S)
        return scores.masked_fill(mask[:, None, None] == 0, torch.finfo(scores.dtype).min).softmax(-1)


def position_embedding(tokens: Tensor) -> Tensor:
    """Return sinusoidal features of each token's position (Vaswani et al. 2017), (B, S, w) -> (S, w), RMS 0.7."""
    length, width = tokens.shape[1:]
    half = (width + 1) // 2
    rates = torch.exp(-math.log(1e4) * torch.arange(half, device=tokens.device) / half)  # (half,)
    angles = torch.arange(length, device=tokens.device)[:, None] * rates  # (S, half)
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :width].to(tokens.dtype)  # (S, w)


class ExactScale(nn.Module):
    """Rescales each token to a given root mean square, times one learned gain that starts at 1.

    Args:
        rms: root mean square of the target's embeddings.
    """

    def __init__(self, rms: float) -> None:
        super().__init__()
        self.rms: Tensor
        self.register_buffer("rms", torch.tensor(rms), persistent=False)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        """Rescale, (B, K, d_t) -> (B, K, d_t), so that each token's RMS is rms * |gain|."""
        size = z.pow(2).mean(-1, keepdim=True).sqrt()  # (B, K, 1)
        return z * (self.rms * self.gain / size)  # (B, K, d_t)
