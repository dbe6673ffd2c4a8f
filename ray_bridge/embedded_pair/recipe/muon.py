"""Muon (Jordan et al. 2024): momentum with orthogonalised updates for matrices, AdamW for all other parameters.

On models of this size it needs about half the steps of AdamW. Matrices of one shape are orthogonalised together, so
that fewer kernels are launched.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalised(update: Tensor) -> Tensor:
    """Take five Newton-Schulz steps from matrices (..., n, m) towards the nearest semi-orthogonal ones."""
    x = update.to(torch.bfloat16) if update.is_cuda else update
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.transpose(-1, -2) if tall else x).float()


class Muon:
    """Optimises a model's hidden matrices by Muon and its other parameters by AdamW.

    Args:
        model: the model.
        extra: further parameters for AdamW.
        lr: peak learning rate of Muon.
        adam_lr: peak learning rate of AdamW.
        weight_decay: of Muon's matrices.
    """

    def __init__(
        self,
        model: nn.Module,
        extra: Iterable[nn.Parameter] = (),
        lr: float = 0.02,
        adam_lr: float = 0.003,
        weight_decay: float = 0.02,
    ) -> None:
        self.lr, self.adam_lr, self.weight_decay = lr, adam_lr, weight_decay
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        rest: list[nn.Parameter] = list(extra)
        for name, p in model.named_parameters():
            if p.ndim == 2 and "embed" not in name and "lm_head" not in name:
                self.groups.setdefault(tuple(p.shape), []).append(p)
            else:
                rest.append(p)
        self.momentum = {s: torch.zeros(len(ps), *s, device=ps[0].device) for s, ps in self.groups.items()}
        self.adam = torch.optim.AdamW(
            rest, lr=adam_lr, betas=(0.9, 0.97), weight_decay=0.0, fused=rest[0].is_cuda or None
        )

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Apply the gradients, with the peak learning rates times `scale`."""
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * scale
        self.adam.step()
        for shape, params in self.groups.items():
            momentum = self.momentum[shape]
            gradient = torch.stack([p.grad for p in params if p.grad is not None]).float()
            momentum.lerp_(gradient, 0.05)
            update = orthogonalised(gradient.lerp(momentum, 0.95))
            rate = self.lr * scale * max(1.0, shape[0] / shape[1]) ** 0.5
            weights: list[Tensor] = [p.data for p in params]
            torch._foreach_mul_(weights, 1 - self.lr * scale * self.weight_decay)
            torch._foreach_add_(weights, list(update.unbind(0)), alpha=-rate)


def trapezoid(progress: float, warmup: float = 0.02, hold: float = 0.45) -> float:
    """Return the share of the peak learning rate at progress 0..1: short warm-up, plateau, linear decay to 0."""
    return min(1.0, progress / warmup) if progress < hold else max(0.0, (1 - progress) / (1 - hold))
