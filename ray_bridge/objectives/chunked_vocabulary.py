"""Losses over the whole vocabulary in parts, so that no part of memory holds fp32 logits of every answer token.

A row of Llama 3's logits is 128,256 columns, half a megabyte in fp32, and a loss with its gradient needs several of
them. Here a few hundred rows at a time go through the head, forward and at once back, and only the states' gradient
stays (the way of Liger Kernel's fused losses, Hsu et al. 2024): nothing is computed again later.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

PART = 256
"""Most rows of logits that exist at once."""

Function = Callable[..., Tensor]


def sum_in_parts(function: Function, *rows: Tensor, part: int | None = None) -> Tensor:
    """Sum over parts of `function(rows of each tensor)`, with its gradient in the first tensor.

    Args:
        function: a scalar, the sum over the rows it is given.
        rows: tensors of N rows each, states of (N, d) first; the others get no gradient.
        part: most rows at once, `PART` by default; parts are as equal as can be.
    """
    N = len(rows[0])
    count = max(1, -(-N // (part or PART)))
    edges = [N * i // count for i in range(count + 1)]
    if torch.is_grad_enabled() and rows[0].requires_grad:
        return _InParts.apply(function, edges, *rows)
    return _values(function, edges, rows)


def _values(function: Function, edges: list[int], rows: tuple[Tensor, ...]) -> Tensor:
    total = rows[0].new_zeros((), dtype=torch.promote_types(rows[0].dtype, torch.float32))
    for low, high in pairwise(edges):
        total = total + function(*(x[low:high] for x in rows))
    return total


class _InParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, edges: list[int], states: Tensor, *others: Tensor) -> Tensor:
        total = states.new_zeros((), dtype=torch.promote_types(states.dtype, torch.float32))
        gradient = torch.empty_like(states)  # (N, d)
        for low, high in pairwise(edges):
            part = states[low:high].detach().requires_grad_()  # (n, d)
            with torch.enable_grad():
                value = function(part, *(x[low:high] for x in others))
                (gradient[low:high],) = torch.autograd.grad(value, part)
            total = total + value.detach()
        ctx.save_for_backward(gradient)
        ctx.others = len(others)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        # In the factor's own precision: rounded to half, it would scale the whole gradient wrongly.
        scaled = gradient.to(torch.promote_types(gradient.dtype, outer[0].dtype)) * outer[0]  # (N, d)
        return None, None, scaled.to(gradient.dtype), *([None] * ctx.others)
