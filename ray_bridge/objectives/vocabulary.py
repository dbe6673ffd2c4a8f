"""Losses over the whole vocabulary in parts, so that no part of memory holds fp32 logits of every answer token.

A row of Llama 3's logits is 128,256 columns, half a megabyte in fp32, and a loss with its gradient needs several of
them. Here a few hundred rows at a time go through the head; in the backward pass each part is computed again.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PART = 256
"""Rows of logits that exist at once."""


def sum_in_parts(function: Callable[..., Tensor], *rows: Tensor, part: int | None = None) -> Tensor:
    """Sum over parts of `function(rows of each tensor)`, with its gradient.

    Args:
        function: a scalar, the sum over the rows it is given.
        rows: tensors of N rows each, states of (N, d) first.
        part: rows at once, `PART` by default.
    """
    size = part or PART
    total = rows[0].new_zeros((), dtype=torch.promote_types(rows[0].dtype, torch.float32))
    for at in range(0, len(rows[0]), size):
        some = [x[at : at + size] for x in rows]
        if torch.is_grad_enabled() and rows[0].requires_grad:
            total = total + checkpoint(function, *some, use_reentrant=False, preserve_rng_state=False)
        else:
            total = total + function(*some)
    return total
