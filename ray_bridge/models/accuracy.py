"""Judge a fast path by its error against higher precision, beside the eager path's own error on the same tokens.

Two ways to compute one thing differ by rounding, and what rounding amounts to depends on weights and text: on nonsense
even the eager path can be wholly off (a relative error of 0.89 on a real model of 135M parameters in bf16). A fixed
bound on the difference of two paths would refuse right ones on real weights and admit wrong ones on tame weights. A
fast path is as good as the eager one if it is not further from higher precision, token by token.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ray_bridge.models.fused_layers import decoder_of, rotaries
from ray_bridge.models.prefix_cache import additive_mask
from ray_bridge.models.windows import layer_windows
from ray_bridge.noise import generator

SHARES = {0.5: 2.0, 0.9: 2.0, 0.99: 4.0}
"""By share of tokens: how many times the eager path's error a fast path's may be at that quantile.

Measured on an H100 with SmolLM2-135M on GSM8K text and random ids: 0.87 to 1.21 in bf16 and fp32. A wrong factor of 1 %
in one layer exceeds the bound in fp32; wrong layers exceed it a hundred times in bf16."""
FLOOR = 8.0
"""Errors below so many roundings of the dtype are never refused: an eager path may be exact by chance."""
REFERENCE_ERROR = 1e-12
"""Errors below it are never refused, either: under fp64 the reference is no wider than what it judges."""
TOKENS = 256
"""Tokens of one probe."""
BEYOND = 64
"""Tokens of a probe beyond the shortest window of a model's layers."""
WIDEST = 8192
"""Longest window that a probe outruns."""

SAMPLE = (
    "Question: A baker sells 24 rolls in the morning and half as many in the afternoon, at $3 each. How much does she "
    "take in a day?\nAnswer: In the afternoon she sells 24 / 2 = <<24/2=12>>12 rolls.\nOver the day that is 24 + 12 = "
    "<<24+12=36>>36 rolls.\nShe takes 36 * 3 = $<<36*3=108>>108.\n#### 108\n\nQuestion: Where is the museum that the "
    "architect designed before 1990, and which river flows past it?\nAnswer: It stands in Basel, on the Rhine."
)
"""Text for a model whose task is not known."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Errors of both paths at the quantiles of `SHARES`, relative to the reference's norm.

    Attributes:
        eager: of the eager path.
        fast: of the fast path.
        floor: error that is never refused.
    """

    eager: tuple[float, ...]
    fast: tuple[float, ...]
    floor: float

    @property
    def accurate(self) -> bool:
        """Whether the fast path is at least as good as the eager one, up to the factors of `SHARES`."""
        bounds = [factor * error + self.floor for factor, error in zip(SHARES.values(), self.eager, strict=True)]
        return all(error <= bound for error, bound in zip(self.fast, bounds, strict=True))

    @property
    def ratio(self) -> float:
        """The fast path's median error over the eager path's."""
        return self.fast[0] / max(self.eager[0], 1e-30)


def judge(reference: Tensor, eager: Tensor, fast: Tensor, dtype: torch.dtype) -> Verdict:
    """Compare two paths with a reference in higher precision.

    Args:
        reference: (T, d) states.
        eager: (T, d) states of the eager path.
        fast: (T, d) states of the fast path.
        dtype: in which both paths compute.
    """
    shares = torch.tensor(list(SHARES), dtype=torch.float64, device=reference.device)
    size = reference.double().norm(dim=-1).clamp(min=1e-30)  # (T,)

    def quantiles(states: Tensor) -> tuple[float, ...]:
        error = (states.double() - reference.double()).norm(dim=-1) / size  # (T,)
        error = error.nan_to_num(nan=torch.inf)
        return tuple(error.quantile(shares, interpolation="higher").tolist())

    return Verdict(
        eager=quantiles(eager), fast=quantiles(fast), floor=max(FLOOR * torch.finfo(dtype).eps, REFERENCE_ERROR)
    )


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that counts for several texts: one that is not accurate, or that of the largest ratio."""
    return max(verdicts, key=lambda verdict: (not verdict.accurate, verdict.ratio))


def probes(
    tokenizer: Any, bos: int, vocabulary: int, texts: Sequence[str], longest: int, window: int | None = None
) -> list[Tensor]:
    """Return token ids to judge on, (1, T) each: BOS and the start of the task's text, and random ids.

    A job's rows open with BOS, under which real models have activations thousands of times larger than others.

    Args:
        tokenizer: of the model.
        bos: id that opens the model's rows.
        vocabulary: number of embeddings.
        texts: text of the task, joined; `SAMPLE` if there is none.
        longest: positions that the model has.
        window: shortest window of its layers, which the random ids outrun unless it is longer than `WIDEST`.
    """
    count = min(TOKENS, longest)
    text = "\n\n".join(texts) or SAMPLE
    ids = torch.tensor([bos, *tokenizer(text, add_special_tokens=False)["input_ids"]][:count])  # (T,)
    if window is not None and window <= WIDEST:
        count = min(max(count, window + BEYOND), longest)
    random = torch.randint(0, vocabulary, (count,), generator=generator("accuracy probe"))  # (T,)
    return [probe[None] for probe in (ids.clamp(max=vocabulary - 1), random) if len(probe)]


def precise(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype whose rounding does not matter beside that of `dtype`."""
    return torch.float32 if dtype.itemsize == 2 else torch.float64


class PreciseDecoder:
    """A decoder's own layers in higher precision, copied one at a time so that one is in memory.

    Args:
        model: a decoder of `fused_layers.LAYERS`.
        embeds: (1, T, d) inputs.
        positions: (1, T).
    """

    def __init__(self, model: Any, embeds: Tensor, positions: Tensor) -> None:
        self.decoder, self.dtype = decoder_of(model), precise(embeds.dtype)
        config = model.config.get_text_config()
        windows = layer_windows(config) or [None] * config.num_hidden_layers
        types = getattr(config, "layer_types", None) or ["full_attention"] * len(windows)
        self.embeds, self.positions = embeds.detach().to(self.dtype), positions  # (1, T, d), (1, T)
        angles = {kind: rotary(self.embeds, positions) for kind, rotary in rotaries(model).items()}
        real = torch.ones_like(positions)  # (1, T)
        masks = {w: additive_mask(real, embeds.shape[1], self.dtype, w) for w in set(windows)}  # (1, 1, T, T)
        self.of_layer = [(masks[window], angles[kind]) for window, kind in zip(windows, types, strict=True)]

    def layer(self, index: int, x: Tensor) -> Tensor:
        """Run one layer, (1, T, d) -> (1, T, d)."""
        mask, angles = self.of_layer[index]
        # A copy's weights are its own: the model's may be views of larger tensors.
        layer = copy.deepcopy(self.decoder.layers[index]).to(self.dtype)
        out = layer(x, attention_mask=mask, position_ids=self.positions, position_embeddings=angles)
        states: Tensor = out[0] if isinstance(out, tuple) else out
        return states

    def finish(self, x: Tensor) -> Tensor:
        """Apply the final norm, (1, T, d) -> (1, T, d)."""
        states: Tensor = copy.deepcopy(self.decoder.norm).to(self.dtype)(x)
        return states

    @torch.no_grad()
    def states(self) -> Tensor:
        """Return the last hidden states, (T, d)."""
        x = self.embeds
        for index in range(len(self.of_layer)):
            x = self.layer(index, x)  # (1, T, d)
        return self.finish(x)[0]

    def gradients(self, grad_states: Tensor) -> Tensor:
        """Return the gradient of the inputs, given that of the last hidden states, (1, T, d) -> (T, d)."""
        inputs = [self.embeds]
        with torch.no_grad():
            for index in range(len(self.of_layer)):
                inputs.append(self.layer(index, inputs[-1]))
        grad = _pull_back(self.finish, inputs.pop(), grad_states.to(self.dtype))  # (1, T, d)
        for index in reversed(range(len(self.of_layer))):
            grad = _pull_back(partial(self.layer, index), inputs.pop(), grad)
        return grad[0]


def _pull_back(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        (result,) = torch.autograd.grad(function(leaf), leaf, grad)
    return result
