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
        output = network(x, torch.full((len(x),), i / steps, dtype=x.dtype, device=x.device))  # (B, K, d)
        x = euler_step(x, output, i, steps, prediction)  # (B, K, d)
    return x


def euler_step(x: Tensor, output: Tensor, i: int, steps: int, prediction: Literal["x1", "velocity"]) -> Tensor:
    """Return x, (B, K, d), at t = (i + 1) / steps, from x at t = i / steps and the network's prediction there."""
    velocity = (output - x) / (1 - i / steps) if prediction == "x1" else output  # (B, K, d)
    return x + velocity / steps


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
    return squared_error(network(interpolate(data, noise, times), times), data, noise, prediction)


def interpolate(data: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Return x_t, (B, K, d), on the straight path from noise (B, K, d) to data (B, K, d) at times (B,)."""
    at = times[:, None, None]  # (B, 1, 1)
    return (1 - at) * noise + at * data


def squared_error(output: Tensor, data: Tensor, noise: Tensor, prediction: Literal["x1", "velocity"]) -> Tensor:
    """Return the mean squared error, (B,), of a prediction on the path from noise to data, (B, K, d) each."""
    truth = data if prediction == "x1" else data - noise  # (B, K, d)
    return (output - truth).pow(2).mean((1, 2))  # (B,)
