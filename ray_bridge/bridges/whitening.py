"""Whiten source states by fixed statistics of training prompts, so that a bridge can tell questions apart.

Hidden states share a large mean and have a few directions of very large variance. What distinguishes two questions is
small beside them, above all once it is averaged over a question's tokens. Without whitening the pooled condition is
nearly the same vector for every question, and bridges on the embedded pair learned nothing in 500 steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_ROUNDING = 1e-12  # share of a row's squares that the sums of equal rows may seem to vary by
_FLOOR = 1e-3  # share of the largest variance below which a direction is not amplified further


@dataclass(kw_only=True)
class Moments:
    """Moments of rows x, in float64, which add up over batches and workers: nothing else of the rows is kept.

    Attributes:
        count: number of rows.
        total: (d,), sum of x.
        square: (d, d), sum of x xᵀ.
        cube: (d,), sum of |x|² x.
        fourth: sum of |x|⁴.
    """

    count: Tensor
    total: Tensor
    square: Tensor
    cube: Tensor
    fourth: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "Moments":
        """Compute the moments of rows (N, d)."""
        x = rows.double()  # (N, d)
        lengths = x.pow(2).sum(1)  # (N,)
        count = torch.tensor(float(len(x)), dtype=x.dtype, device=x.device)
        return cls(count=count, total=x.sum(0), square=x.T @ x, cube=lengths @ x, fourth=lengths @ lengths)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def add_(self, other: "Moments") -> "Moments":
        """Add in place: (d, d) is large."""
        for name, value in vars(self).items():
            value.add_(getattr(other, name))
        return self

    def tensors(self) -> list[Tensor]:
        """Return all of them, as sums over workers need them."""
        return list(vars(self).values())

    def covariance(self) -> Tensor:
        """Return the sample covariance, (d, d)."""
        center = self.total / self.count  # (d,)
        return self.square / self.count - torch.outer(center, center)  # (d, d)

    def shrinkage(self) -> float:
        """Return which share of the covariance a multiple of the identity should replace (Ledoit & Wolf 2004).

        It is near 0 for many rows and near 1 for few rows or nearly equal variances. Their estimator needs the fourth
        moments of centred rows, which follow from those of the rows as they are.
        """
        center, covariance = self.total / self.count, self.covariance()  # (d,), (d, d)
        size, length = len(center), center @ center
        fourth = (
            self.fourth
            - 4 * center @ self.cube
            + 2 * length * self.square.trace()
            + 4 * center @ self.square @ center
            - 3 * self.count * length**2
        )
        squares = covariance.pow(2).sum()
        spread = squares - covariance.trace() ** 2 / size  # distance from a multiple of the identity
        error = (fourth / self.count - squares) / self.count  # of the sample covariance
        return float((error / spread).clamp(0, 1)) if spread > 0 and error > 0 else 0.0


class Whitening(nn.Module):
    """Symmetric (ZCA) whitening with fixed, shrunk statistics (Kessy, Lewin & Strimmer 2018); the identity until `fit`.

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
        """Compute the statistics from moments of what `forward` will read.

        The covariance is shrunk before it is inverted: with few rows for their width, most directions of the sample
        covariance look far smaller than they are, and rows that were not among those fitted would be amplified there.
        All directions are then scaled alike, so that fitted rows have RMS 1 however many of their directions are small:
        else the bridge would learn more slowly from some models' states than from others'. Rows without any spread are
        centred alone.
        """
        center, shrinkage = moments.total / moments.count, moments.shrinkage()  # (d,)
        variances, directions = torch.linalg.eigh(moments.covariance())  # (d,), (d, d)
        if float(variances.mean()) <= _ROUNDING * float(center.pow(2).mean()):  # one row, or the same one again
            self.center.copy_(center)
            self.whiten.copy_(torch.eye(len(center)))
            return
        shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()  # (d,)
        scale = shrunk.clamp(min=_FLOOR * float(shrunk.max())).rsqrt()  # (d,)
        scale = scale / (variances * scale.pow(2)).mean().sqrt()  # (d,)
        self.center.copy_(center)
        self.whiten.copy_((directions * scale) @ directions.T)
