"""The rival without training: one linear map from source states to the target's embeddings, fitted in closed form.

Model stitching (Lenc & Vedaldi 2015; Bansal et al. 2021) and vector translation between language models (Yang &
Eshraghian 2025) ask how much of what one network knows another can read through a linear map. Here source states are
resampled to K slots, as the teacher's text is, and ridge regression (Hoerl & Kennard 1970) maps a slot's state to the
target's embedding of the teacher's text in that slot. The map is the same for all slots, the intercept one a slot.
"""

from typing import Self

import torch
from torch import Tensor, nn

from ray_bridge.bridges.layers import ExactScale
from ray_bridge.bridges.slot_regression import SlotSums, ridge
from ray_bridge.bridges.whitening import Moments
from ray_bridge.config.spec import JobSpec

STRENGTHS = tuple(10.0**power for power in range(-6, 3))
"""Ridge strengths that are tried, in units of the mean variance of a state's dimension."""


class LinearBridge(nn.Module):
    """Maps source states, resampled to K slots, linearly to soft tokens; nothing of it is trained.

    Args:
        source_size: d, width of the states that it reads.
        target_size: d_t.
        target_rms: root mean square of the target's embeddings.
        soft_tokens: K.
    """

    def __init__(self, *, source_size: int, target_size: int, target_rms: float, soft_tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(source_size, elementwise_affine=False)
        # Parameters, so that they count as the bridge's; unfitted ones give every slot some direction.
        self.weight = nn.Parameter(torch.zeros(source_size, target_size), requires_grad=False)
        self.bias = nn.Parameter(torch.randn(soft_tokens, target_size), requires_grad=False)
        self.scale = ExactScale(target_rms)

    @classmethod
    def from_spec(cls, spec: JobSpec, *, source_size: int, target_size: int, target_rms: float) -> Self:
        """Make the bridge that a job asks for; see `Bridge.from_spec`."""
        return cls(
            source_size=source_size,
            target_size=target_size,
            target_rms=target_rms,
            soft_tokens=spec.soft_tokens,
        )

    def moments(self, states: Tensor, mask: Tensor) -> list[Moments]:
        """Return no moments: nothing is whitened."""
        return []

    def fit(self, moments: list[Moments]) -> None:
        """Do nothing: nothing is whitened; see `regress`."""

    def slots(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return what the map reads, (B, S, d) and (B, S) -> (B, K, d): normalised states, resampled to the slots."""
        return resample_rows(self.norm(states), mask, len(self.bias))

    def sums(self, states: Tensor, mask: Tensor, data: Tensor) -> SlotSums:
        """Return what the regression needs of some prompts, for `regress`.

        Args:
            states: (B, S, d).
            mask: (B, S), 1 on tokens that may be read.
            data: (B, K, d_t), the teacher's text at unit RMS.
        """
        return SlotSums.of(self.slots(states, mask), data)

    @torch.no_grad()
    def regress(self, fitted: SlotSums, held_out: SlotSums) -> dict[str, float]:
        """Fit the map by ridge regression, with the strength whose map predicts held-out prompts best.

        Args:
            fitted: sums over the prompts on which each strength's map is fitted.
            held_out: sums over other prompts, which choose the strength; the final map is fitted on both.

        Returns:
            Metrics: the strength, and the share of held-out variance that its map explains.
        """
        maps = {strength: ridge(fitted, strength) for strength in STRENGTHS}
        explained = {strength: held_out.explained(*one) for strength, one in maps.items()}
        best = max(explained, key=lambda strength: explained[strength])
        weight, bias = ridge(fitted + held_out, best)  # (d, d_t), (K, d_t)
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        return {"linear/ridge": best, "linear/held_out_r2": explained[best]}

    def forward(self, states: Tensor, mask: Tensor, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Make soft tokens at the target's scale.

        Args:
            states: (B, S, d).
            mask: (B, S), 1 on tokens that may be read.
            noise: (B, K, d_t), not used: this is no flow.
            dropped: (B,), not used: there is no guidance.

        Returns:
            (B, K, d_t).
        """
        return self.scale(self.slots(states, mask) @ self.weight + self.bias)  # (B, K, d_t)


def resample_rows(states: Tensor, mask: Tensor, count: int) -> Tensor:
    """Interpolate each row's real states linearly at `count` points, as `resample` does, (B, S, d) -> (B, count, d).

    Args:
        states: (B, S, d).
        mask: (B, S), 1 on the first tokens of each row, which are real.
        count: K.
    """
    last = (mask.sum(1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
    steps = torch.linspace(0, 1, count, dtype=torch.float64, device=states.device)  # (K,)
    at = last * steps  # (B, K)
    low = at.floor().long()  # (B, K)
    high = torch.minimum(low + 1, last)  # (B, K)
    share = (at - low).to(states.dtype)[..., None]  # (B, K, 1)
    rows = torch.arange(len(states), device=states.device)[:, None]  # (B, 1)
    return states[rows, low] * (1 - share) + states[rows, high] * share  # (B, K, d)
