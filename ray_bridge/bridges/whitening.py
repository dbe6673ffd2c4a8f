"""Whiten source states by fixed statistics of training prompts, so that a bridge can tell questions apart.

Hidden states share a large mean and have a few directions of very large variance. What distinguishes two questions is
small beside them, above all once it is averaged over a question's tokens. Without whitening the pooled condition is
nearly the same vector for every question, and bridges on the embedded pair learned nothing in 500 steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_FLOOR = 1e-3  # share of the largest variance below which a direction is not amplified further


@dataclass(kw_only=True)
class Moments:
    """First and second moments of rows, in float64, which add up over batches and workers.

    Attributes:
        count: number of rows.
        total: (d,), their sum.
        square: (d, d), sum of their outer products.
    """

    count: Tensor
    total: Tensor
    square: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "Moments":
        """Compute the moments of rows (N, d)."""
        x = rows.double()  # (N, d)
        return cls(count=torch.tensor(float(len(x)), dtype=x.dtype, device=x.device), total=x.sum(0), square=x.T @ x)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            count=self.count + other.count, total=self.total + other.total, square=self.square + other.square
        )


class Whitening(nn.Module):
    """Symmetric (ZCA) whitening with fixed statistics (Kessy, Lewin & Strimmer 2018); the identity until `fit`.

    The statistics are buffers, so they are saved and loaded with the weights.

    Args:
        size: d.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.center: Tensor
        self.whiten: Tensor
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size))

    def forward(self, x: Tensor) -> Tensor:
        """Centre and whiten, (..., d) -> (..., d)."""
        return (x - self.center) @ self.whiten

    @torch.no_grad()
    def fit(self, moments: Moments) -> None:
        """Compute the statistics from moments of what `forward` will read."""
        center = moments.total / moments.count  # (d,)
        covariance = moments.square / moments.count - torch.outer(center, center)  # (d, d)
        variances, directions = torch.linalg.eigh(covariance)  # (d,), (d, d)
        scale = variances.clamp(min=_FLOOR * float(variances.max())).rsqrt()  # (d,)
        self.center.copy_(center)
        self.whiten.copy_((directions * scale) @ directions.T)
