"""Rectified flow (Liu et al. 2022; Lipman et al. 2022) between noise at t = 0 and data at t = 1, in unit-RMS space.

It is separate from the network that predicts. Training takes the same N steps as evaluation, and the language-model
loss is taken through all of them.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, K, d), t (B,)) -> prediction (B, K, d)."""


def sample(network: Network, noise: Tensor, steps: int, prediction: Literal["x1", "velocity"]) -> Tensor:
    """Integrate from noise to data by Euler steps at t_i = i / steps, i = 0 .. steps - 1.

    Args:
        network: predicts the clean x1 or the velocity v = x1 - x0 at (x_t, t).
        noise: (B, K, d), x0.
        steps: N.
        prediction: what the network predicts.

    Returns:
        (B, K, d), x at t = 1. Under "x1" this is the network's last prediction.
    """
    x = noise  # (B, K, d)
    for i in range(steps):
        t = i / steps
        output = network(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device))  # (B, K, d)
        velocity = (output - x) / (1 - t) if prediction == "x1" else output  # (B, K, d)
        x = x + velocity / steps
    return x


def flow_error(
    network: Network, data: Tensor, noise: Tensor, times: Tensor, prediction: Literal["x1", "velocity"]
) -> Tensor:
    """Compute the squared error of the network's prediction on the straight path from noise to data.

    Args:
        network: as in `sample`.
        data: (B, K, d), x1, without gradient.
        noise: (B, K, d), x0.
        times: (B,), drawn logit-normal (Esser et al. 2024).
        prediction: what the network predicts.

    Returns:
        (B,), mean over K and d.
    """
    data = data.detach()
    at = times[:, None, None]  # (B, 1, 1)
    output = network((1 - at) * noise + at * data, times)  # (B, K, d)
    truth = data if prediction == "x1" else data - noise  # (B, K, d)
    return (output - truth).pow(2).mean((1, 2))  # (B,)
