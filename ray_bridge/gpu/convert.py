"""Convert many tensors to another dtype at once, and their gradients back at once.

Autocast converts each weight of a bridge by a launch of its own, and so does the backward pass with each gradient: two
hundred launches a step, most of which move a few kilobytes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def convert_together(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return tensors of any shapes in another dtype, with gradients."""
    return _Convert.apply(dtype, *tensors)


class _Convert(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.dtypes = [tensor.dtype for tensor in tensors]
        return tuple(_copies(tensors, [dtype] * len(tensors)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        there = [i for i, gradient in enumerate(gradients) if gradient is not None]
        copies = _copies([gradients[i] for i in there], [ctx.dtypes[i] for i in there])
        found: dict[int, Tensor] = dict(zip(there, copies, strict=True))
        return None, *(found.get(i) for i in range(len(gradients)))


def _copies(tensors: Sequence[Any], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    if copies:
        torch._foreach_copy_(copies, list(tensors))
    return copies
