"""Losses over the whole vocabulary in chunks of rows, so that fp32 logits of all answer tokens never exist at once.

A row of Llama 3's logits has 128,256 columns, half a megabyte in fp32, and a loss with its gradient needs several such
rows. Here a few hundred rows at a time go through the head, forward and at once backward, and only the gradient of the
states is kept (as in Liger Kernel's fused losses, Hsu et al. 2024). Nothing is computed a second time.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Most rows of logits that exist at once."""

Function = Callable[..., Tensor]


def sum_in_chunks(function: Function, *rows: Tensor, chunk: int | None = None) -> Tensor:
    """Sum `function(rows of each tensor)` over chunks of rows, with its gradient in the first tensor.

    Args:
        function: maps rows of each tensor to a scalar, their sum.
        rows: tensors of N rows each, the first (N, d) states; the others get no gradient.
        chunk: most rows at once, `CHUNK` by default; chunks are as equal as can be.
    """
    N = len(rows[0])
    count = max(1, -(-N // (chunk or CHUNK)))
    edges = [N * i // count for i in range(count + 1)]
    if torch.is_grad_enabled() and rows[0].requires_grad:
        return _ChunkedSum.apply(function, edges, *rows)
    return _values(function, edges, rows)


def _values(function: Function, edges: list[int], rows: tuple[Tensor, ...]) -> Tensor:
    total = rows[0].new_zeros((), dtype=torch.promote_types(rows[0].dtype, torch.float32))
    for low, high in pairwise(edges):
        total = total + function(*(x[low:high] for x in rows))
    return total


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, edges: list[int], states: Tensor, *others: Tensor) -> Tensor:
        total = states.new_zeros((), dtype=torch.promote_types(states.dtype, torch.float32))
        gradient = torch.empty_like(states)  # (N, d)
        for low, high in pairwise(edges):
            chunk = states[low:high].detach().requires_grad_()  # (n, d)
            with torch.enable_grad():
                value = function(chunk, *(x[low:high] for x in others))
                (gradient[low:high],) = torch.autograd.grad(value, chunk)
            total = total + value.detach()
        ctx.save_for_backward(gradient)
        ctx.others = len(others)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_output: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        # In the factor's own precision: rounded to half, it would scale the whole gradient wrongly.
        dtype = torch.promote_types(gradient.dtype, grad_output[0].dtype)
        scaled = gradient.to(dtype) * grad_output[0]  # (N, d)
        return None, None, scaled.to(gradient.dtype), *([None] * ctx.others)
