"""Ridge regression of slots (K of them, each with an intercept of its own) from sums that add up over prompts."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SlotSums:
    """Sums over prompts of states x (K, d) and data y (K, d_t), in float64: all that the regression needs of them.

    Attributes:
        count: number of prompts.
        x: (K, d), sum of x by slot.
        y: (K, d_t), sum of y by slot.
        xx: (d, d), sum of x xᵀ over prompts and slots.
        xy: (d, d_t), sum of x yᵀ.
        yy: sum of |y|².
    """

    count: Tensor
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def of(cls, states: Tensor, data: Tensor) -> "SlotSums":
        """Return the sums of B prompts, of states (B, K, d) and data (B, K, d_t)."""
        x, y = states.double(), data.double()  # (B, K, d), (B, K, d_t)
        rows, values = x.flatten(0, 1), y.flatten(0, 1)  # (B * K, d), (B * K, d_t)
        count = torch.tensor(float(len(x)), dtype=x.dtype, device=x.device)
        return cls(count=count, x=x.sum(0), y=y.sum(0), xx=rows.T @ rows, xy=rows.T @ values, yy=y.pow(2).sum())

    def __add__(self, other: "SlotSums") -> "SlotSums":
        return SlotSums(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def add_(self, other: "SlotSums") -> None:
        """Add in place: (d, d) is large."""
        for name, value in vars(self).items():
            value.add_(getattr(other, name))

    def tensors(self) -> list[Tensor]:
        """Return all of them, as sums over workers need them."""
        return list(vars(self).values())

    def explained(self, weight: Tensor, bias: Tensor) -> float:
        """Return the share of these prompts' variance around each slot's mean that a map explains.

        Args:
            weight: (d, d_t).
            bias: (K, d_t), the intercept of each slot.
        """
        residual = (
            self.yy
            - 2 * (weight * self.xy).sum()
            - 2 * (bias * self.y).sum()
            + (weight * (self.xx @ weight)).sum()
            + 2 * (bias * (self.x @ weight)).sum()
            + self.count * bias.pow(2).sum()
        )
        variance = self.yy - self.y.pow(2).sum() / self.count
        return float(1 - residual / variance)


def ridge(sums: SlotSums, strength: float) -> tuple[Tensor, Tensor]:
    """Return the map (d, d_t) and the slots' intercepts (K, d_t) of ridge regression.

    Args:
        sums: of the prompts.
        strength: factor on the squared weights, in units of the mean variance of a state's dimension.
    """
    x, y = sums.x / sums.count, sums.y / sums.count  # (K, d), (K, d_t)
    xx = sums.xx - sums.count * x.T @ x  # (d, d), around each slot's mean
    xy = sums.xy - sums.count * x.T @ y  # (d, d_t)
    penalty = strength * xx.diagonal().mean() * torch.eye(len(xx), dtype=xx.dtype, device=xx.device)  # (d, d)
    weight = torch.linalg.solve(xx + penalty, xy)  # (d, d_t)
    return weight, y - x @ weight
