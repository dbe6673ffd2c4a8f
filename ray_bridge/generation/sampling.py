"""Sampling of the next token, the same for eager and graphed decoding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

COLDEST = 1e-30
"""Lowest temperature that divides: below, quotients overflow, and at this one the most likely token is certain."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Draw each row's tokens from its softmax at a temperature, with the row's own generator.

    Attributes:
        temperature: divides the logits.
        generators: one for each row.
    """

    temperature: float
    generators: Sequence[torch.Generator]

    def uniforms(self, count: int) -> Tensor:
        """Return each row's next `count` uniform numbers in (0, 1), (B, count) fp64 on the CPU."""
        return torch.stack([torch.rand(count, generator=g, dtype=torch.float64) for g in self.generators])

    def rows(self, index: Sequence[int]) -> "Sampling":
        """Return the sampling of the rows with these indices, in their order."""
        return replace(self, generators=[self.generators[i] for i in index])


def choose(logits: Tensor, uniform: Tensor | None, sampling: Sampling | None) -> Tensor:
    """Choose the next token of each row: the most likely one, or one drawn from the distribution.

    Tokens are drawn by inverting the cumulative distribution at one uniform number each, so that devices and batches
    agree and a captured step needs no generator.

    Args:
        logits: (b, V).
        uniform: (b,) in (0, 1), or None for the most likely tokens.
        sampling: its temperature is used; None also means the most likely tokens.

    Returns:
        (b,).
    """
    if sampling is None or uniform is None:
        return logits.argmax(-1)  # (b,)
    shares = (logits / max(sampling.temperature, COLDEST)).softmax(-1).cumsum(-1)  # (b, V)
    total = shares[:, -1]  # (b,)
    # A uniform number may round to 1 in fp32, where no token lies: the last one that is possible takes it.
    at = (uniform.to(shares.dtype) * total).minimum(total.nextafter(torch.zeros_like(total)))  # (b,)
    return torch.searchsorted(shares, at[:, None], right=True)[:, 0].clamp(max=shares.shape[-1] - 1)  # (b,)


def fix_draws(sampling: Sampling | None, uniforms: Tensor | None) -> Sampling | None:
    """Return sampling that uses uniform numbers (B, T) that were drawn before; None if either argument is."""
    if sampling is None or uniforms is None:
        return None
    return _FixedDraws(temperature=sampling.temperature, generators=sampling.generators, drawn=uniforms)


@dataclass(frozen=True, kw_only=True)
class _FixedDraws(Sampling):
    drawn: Tensor

    def uniforms(self, count: int) -> Tensor:
        return self.drawn[:, :count]

    def rows(self, index: Sequence[int]) -> Sampling:
        return replace(self, generators=[self.generators[i] for i in index], drawn=self.drawn[list(index)])
