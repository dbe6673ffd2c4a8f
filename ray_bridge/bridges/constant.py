"""The control without a source: K learned soft tokens, the same for every question.

This is prompt tuning (Lester et al. 2021): what a translator gains over it comes from what the source says of the
question; what it gains itself, from training alone.
"""

from typing import Self

import torch
from torch import Tensor, nn

from ray_bridge.bridges.layers import ExactScale
from ray_bridge.bridges.whitening import Moments
from ray_bridge.config.spec import JobSpec


class ConstantPrompt(nn.Module):
    """Returns learned soft tokens, the same for all states of the source.

    Args:
        target_size: d_t.
        target_rms: root mean square of the target's embeddings.
        soft_tokens: K.
    """

    def __init__(self, *, target_size: int, target_rms: float, soft_tokens: int) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.randn(soft_tokens, target_size))  # (K, d_t)
        self.scale = ExactScale(target_rms)

    @classmethod
    def from_spec(cls, spec: JobSpec, *, source_size: int, target_size: int, target_rms: float) -> Self:
        """Make the bridge that a job asks for; see `Bridge.from_spec`."""
        return cls(target_size=target_size, target_rms=target_rms, soft_tokens=spec.soft_tokens)

    def moments(self, states: Tensor, mask: Tensor) -> list[Moments]:
        """Return no moments: nothing is whitened."""
        return []

    def fit(self, moments: list[Moments]) -> None:
        """Do nothing: nothing is whitened."""

    def forward(self, states: Tensor, mask: Tensor, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Return the learned tokens, (B, K, d_t), of which states, mask and noise change nothing but B."""
        return self.scale(self.prompt.expand(len(states), -1, -1))  # (B, K, d_t)
