"""From a sequence of source states to what conditions a bridge."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conditioner(nn.Module):
    """Normalises source states, brings them to the bridge's width, and pools them over the question's tokens.

    `mean` pools with equal weights. `attention` has learned queries, one a head, each of which picks the tokens it
    needs (Set Transformer's pooling by attention, Lee et al. 2019); their weights are kept for diagnostics.

    Attributes:
        weights: (B, heads, S) of the last forward pass under `attention`, None under `mean`.
    """

    def __init__(self, source_size: int, width: int, pooling: Literal["mean", "attention"], heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(source_size)
        self.project = nn.Linear(source_size, width)
        self.pooling = pooling
        self.weights: Tensor | None = None
        if pooling == "attention":
            self.keys = nn.Linear(width, width)
            self.queries = nn.Parameter(torch.randn(heads, width) / math.sqrt(width))
            self.values = nn.Linear(width, width)
            self.merge = nn.Linear(heads * width, width)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Project and pool.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that are pooled.

        Returns:
            The projected sequence (B, S, w) and the condition (B, w).
        """
        tokens = self.project(self.norm(states))  # (B, S, w)
        real = mask.to(tokens.dtype)  # (B, S)
        if self.pooling == "mean":
            total = torch.einsum("bsw,bs->bw", tokens, real)  # (B, w)
            return tokens, total / real.sum(1, keepdim=True).clamp(min=1)  # (B, S, w), (B, w)
        scores = torch.einsum("bsw,hw->bhs", self.keys(tokens), self.queries)  # (B, h, S)
        scores = scores.masked_fill(mask[:, None] == 0, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)  # (B, h, S)
        self.weights = weights.detach()
        picked = torch.einsum("bhs,bsw->bhw", weights, F.gelu(self.values(tokens)))  # (B, h, w)
        return tokens, self.merge(picked.flatten(1))  # (B, S, w), (B, w)
