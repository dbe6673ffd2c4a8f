"""Resample sequences, such as a text of any number of tokens to a fixed number of soft tokens."""

import torch
from torch import Tensor


def resample(sequence: Tensor, count: int) -> Tensor:
    """Interpolate a sequence linearly at `count` points, first and last included, (T, d) -> (count, d)."""
    T = len(sequence)
    if T == 0:
        return sequence.new_zeros(count, sequence.shape[1])
    at = torch.linspace(0, T - 1, count, device=sequence.device, dtype=torch.float64)  # (count,)
    low = at.floor().long()  # (count,)
    high = (low + 1).clamp(max=T - 1)  # (count,)
    share = (at - low).to(sequence.dtype)[:, None]  # (count, 1)
    return sequence[low] * (1 - share) + sequence[high] * share  # (count, d)
