"""Turn a sequence of source states into the condition of a bridge."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.bridges.whitening import Moments, Whitening


class Conditioner(nn.Module):
    """Whitens source states, projects them to the bridge's width, and pools them over the question's tokens.

    Tokens and their mean are whitened by statistics of their own, since the mean varies far less than the tokens.
    `mean` weighs tokens equally. `attention` has one learned query a head (Set Transformer's pooling by multihead
    attention, Lee et al. 2019), whose weights are kept for diagnosis.

    Args:
        source_size: width of the states.
        width: w, width of the bridge.
        pooling: `mean` or `attention`.
        heads: queries of attention pooling.
        sequence: whether the bridge reads the projected tokens, besides the pooled condition.

    Attributes:
        sequence: whether tokens are projected, for the bridge or for attention pooling.
        weights: (B, heads, S) of the last forward pass under `attention`, None under `mean`.
    """

    def __init__(
        self, source_size: int, width: int, pooling: Literal["mean", "attention"], heads: int, *, sequence: bool
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(source_size, elementwise_affine=False)
        self.pooling = pooling
        self.sequence = sequence or pooling == "attention"
        if self.sequence:
            self.each = Whitening(source_size)
            self.project = nn.Linear(source_size, width)
        self.weights: Tensor | None = None
        if pooling == "mean":
            self.whole = Whitening(source_size)
            self.summary = nn.Linear(source_size, width)
        else:
            self.keys = nn.Linear(width, width)
            self.queries = nn.Parameter(torch.randn(heads, width) / math.sqrt(width))
            self.values = nn.Linear(width, width)
            self.merge = nn.Linear(heads * width, width)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor | None, Tensor]:
        """Project and pool.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that are pooled.

        Returns:
            The projected tokens (B, S, w), None if nothing reads them, and the condition (B, w).
        """
        normed = self.norm(states)  # (B, S, d_s)
        tokens = self.project(self.each(normed)) if self.sequence else None  # (B, S, w)
        if self.pooling == "mean" or tokens is None:
            return tokens, self.summary(self.whole(mean_of(normed, mask)))  # (B, S, w), (B, w)
        scores = torch.einsum("bsw,hw->bhs", self.keys(tokens), self.queries)  # (B, h, S)
        scores = scores.masked_fill(mask[:, None] == 0, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)  # (B, h, S)
        self.weights = weights.detach()
        pooled = torch.einsum("bhs,bsw->bhw", weights, F.gelu(self.values(tokens)))  # (B, h, w)
        return tokens, self.merge(pooled.flatten(1))  # (B, S, w), (B, w)

    def moments(self, states: Tensor, mask: Tensor) -> list[Moments]:
        """Compute moments of what the whitening layers read; sum them over training prompts and pass them to `fit`.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that may be read.
        """
        normed = self.norm(states)  # (B, S, d_s)
        of_tokens = [Moments.of(normed[mask.bool()])] if self.sequence else []
        return [*of_tokens, Moments.of(mean_of(normed, mask))] if self.pooling == "mean" else of_tokens

    def fit(self, moments: list[Moments]) -> None:
        """Set the statistics of the whitening layers, from moments of all training prompts."""
        if self.sequence:
            self.each.fit(moments[0])
        if self.pooling == "mean":
            self.whole.fit(moments[-1])


def mean_of(states: Tensor, mask: Tensor) -> Tensor:
    """Average states over the tokens of a mask, (B, S, d), (B, S) -> (B, d)."""
    real = mask.to(states.dtype)  # (B, S)
    return torch.einsum("bsd,bs->bd", states, real) / real.sum(1, keepdim=True).clamp(min=1)  # (B, d)
