"""The regression baseline that a diffusion bridge has to beat: learned queries that read the source tokens in one pass.

Perceiver's cross-attention (Jaegle et al. 2021) alternates with self-attention among the queries, as in Q-Former
(Li et al. 2023). There is no noise and no time.
"""

from typing import Self

import torch
from torch import Tensor, nn

from ray_bridge.bridges.layers import Attention, ExactScale, position_embedding
from ray_bridge.bridges.whitening import Moments, Whitening
from ray_bridge.config.spec import JobSpec


class ResamplerBlock(nn.Module):
    """Cross-attention to the source, self-attention among the queries and an MLP, as pre-norm residuals."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.cross = Attention(width, heads)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Apply the block: x (B, K, w), context (B, S, w), mask (B, S) -> (B, K, w)."""
        x = x + self.cross(self.norms[0](x), context, mask)  # (B, K, w)
        x = x + self.attention(self.norms[1](x))  # (B, K, w)
        return x + self.mlp(self.norms[2](x))  # (B, K, w)


class Resampler(nn.Module):
    """K learned queries that cross-attend to the source's tokens, which have position embeddings.

    Args:
        source_size: width of the states that it reads.
        target_size: d_t.
        target_rms: root mean square of the target's embeddings.
        soft_tokens: K.
        width: w, of the transformer.
        depth: number of blocks.
        heads: attention heads.
    """

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
        """Compute moments of what the whitening layer reads; sum them over training prompts and pass them to `fit`.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that may be read.
        """
        return [Moments.of(self.norm(states)[mask.bool()])]

    def fit(self, moments: list[Moments]) -> None:
        """Set the statistics of the whitening layer, from moments of all training prompts."""
        self.each.fit(moments[0])

    def forward(self, states: Tensor, mask: Tensor, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Make soft tokens at the target's scale.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that may be read.
            noise: (B, K, d_t), not used: this is no flow.
            dropped: (B,), not used: there is no guidance.

        Returns:
            (B, K, d_t).
        """
        context = self.project(self.each(self.norm(states)))  # (B, S, w)
        context = context + position_embedding(context)  # (B, S, w)
        x = self.queries.expand(len(states), -1, -1)  # (B, K, w)
        for block in self.blocks:
            x = block(x, context, mask)
        return self.scale(self.head(self.final(x)))  # (B, K, d_t)
