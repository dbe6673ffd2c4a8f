"""The regression baseline that a diffusion bridge has to beat: learned queries that read the source sequence.

One pass, no noise, no time: Perceiver's cross-attention (Jaegle et al. 2021) in blocks with self-attention among the
queries, as in Q-Former (Li et al. 2023).
"""

from typing import Self

import torch
from torch import Tensor, nn

from ray_bridge.bridges.layers import Attention, ExactScale, sinusoids
from ray_bridge.bridges.whitening import Moments, Whitening
from ray_bridge.config.spec import JobSpec


class ResamplerBlock(nn.Module):
    """Queries attend to the source, then to each other, then to nothing (MLP); pre-norm residuals."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.cross = Attention(width, heads)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """x (B, K, w), context (B, S, w), mask (B, S) -> (B, K, w)."""
        x = x + self.cross(self.norms[0](x), context, mask)  # (B, K, w)
        x = x + self.attention(self.norms[1](x))  # (B, K, w)
        return x + self.mlp(self.norms[2](x))  # (B, K, w)


class Resampler(nn.Module):
    """K learned queries that cross-attend to the source's tokens and their order."""

    def __init__(
        self,
        *,
        source_size: int,
        target_size: int,
        target_rms: float,
        soft_tokens: int,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(source_size, elementwise_affine=False)
        self.each = Whitening(source_size)
        self.project = nn.Linear(source_size, width)
        self.queries = nn.Parameter(torch.randn(soft_tokens, width))
        self.blocks = nn.ModuleList(ResamplerBlock(width, heads) for _ in range(depth))
        self.final = nn.LayerNorm(width)
        self.head = nn.Linear(width, target_size)
        self.scale = ExactScale(target_rms)

    @classmethod
    def from_spec(cls, spec: JobSpec, *, source_size: int, target_size: int, target_rms: float) -> Self:
        """Make the bridge that a job asks for; see `Bridge.from_spec`."""
        return cls(
            source_size=source_size,
            target_size=target_size,
            target_rms=target_rms,
            soft_tokens=spec.soft_tokens,
            width=spec.hidden_size,
            depth=spec.depth,
            heads=spec.num_heads,
        )

    def moments(self, states: Tensor, mask: Tensor) -> list[Moments]:
        """Moments of what the standardising layer reads, to be summed over training prompts and handed to `fit`."""
        return [Moments.of(self.norm(states)[mask.bool()])]

    def fit(self, moments: list[Moments]) -> None:
        """Set the statistics of the standardising layer."""
        self.each.fit(moments[0])

    def forward(self, states: Tensor, mask: Tensor, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Soft tokens at the target's scale; `noise` and `dropped` are a flow's and have no part in it.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that may be read.
            noise: (B, K, d_t), not used.
            dropped: (B,), not used: without guidance no condition is withheld.

        Returns:
            (B, K, d_t).
        """
        context = self.project(self.each(self.norm(states)))  # (B, S, w)
        context = context + sinusoids(context)  # (B, S, w)
        x = self.queries.expand(len(states), -1, -1)  # (B, K, w)
        for block in self.blocks:
            x = block(x, context, mask)
        return self.scale(self.head(self.final(x)))  # (B, K, d_t)
