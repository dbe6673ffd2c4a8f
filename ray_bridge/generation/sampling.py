"""Sampling of the next token, the same for eager and graphed decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn: from each row's softmax at `temperature`, with that row's generator."""

    temperature: float
    generators: Sequence[torch.Generator]

    def uniforms(self, count: int) -> Tensor:
        """Where in (0, 1) each row's next `count` draws fall, (B, count) fp64 on the CPU."""
        return torch.stack([torch.rand(count, generator=g, dtype=torch.float64) for g in self.generators])


def choose(logits: Tensor, uniform: Tensor | None, sampling: Sampling | None) -> Tensor:
    """The next token of each row: the likeliest, or the one whose share of the distribution holds a given number.

    Drawn by inversion, one number a token, so that devices and batches agree and a captured step needs no generator.

    Args:
        logits: (b, V).
        uniform: (b,) in (0, 1), None where the likeliest is taken.
        sampling: gives the temperature.

    Returns:
        (b,).
    """
    if sampling is None or uniform is None:
        return logits.argmax(-1)  # (b,)
    shares = (logits / sampling.temperature).softmax(-1).cumsum(-1)  # (b, V)
    at = uniform.to(shares.dtype) * shares[:, -1]  # (b,)
    return torch.searchsorted(shares, at[:, None], right=True)[:, 0].clamp(max=shares.shape[-1] - 1)  # (b,)


def fix_draws(sampling: Sampling | None, uniforms: Tensor | None) -> Sampling | None:
    """Sampling that draws again what was drawn already."""
    if sampling is None or uniforms is None:
        return None
    return _Drawn(temperature=sampling.temperature, generators=sampling.generators, drawn=uniforms)


@dataclass(frozen=True, kw_only=True)
class _Drawn(Sampling):
    drawn: Tensor

    def uniforms(self, count: int) -> Tensor:
        return self.drawn[:, :count]
