"""Run layers of a model in parts again in the backward pass, with the inputs that they keep shared out as well.

Between layers every process has the whole states, so each would keep the same inputs: at 80 layers of width 8,192 and
15,000 positions 20 GB on every GPU. Each keeps its slice instead, and the group gathers an input when its layer runs
again (Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models").
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ray_bridge.models.sharding.group import ShardGroup

Layer = Callable[[Tensor], Tensor]
"""A frozen layer, (B, T, d) -> (B, T, d)."""


def run_again(layer: Layer, x: Tensor, group: ShardGroup) -> Tensor:
    """Return `layer(x)`, (B, T, d); in the backward pass, gather the input and run the layer again.

    Args:
        layer: the layer, none of whose tensors but its input gets a gradient.
        x: (B, T, d), the same on all processes of the group.
        group: the processes that hold the layer's parts.
    """
    return _RunAgain.apply(x, layer, group)


class _RunAgain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, group: ShardGroup) -> Tensor:
        flat = x.detach().reshape(-1)  # (B T d,)
        ctx.layer, ctx.group, ctx.shape, ctx.shared = layer, group, x.shape, len(flat) % group.size == 0
        ctx.save_for_backward(group.own_slice(flat) if ctx.shared else flat)
        return layer(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (kept,) = ctx.saved_tensors
        x = (ctx.group.gather(kept) if ctx.shared else kept.clone()).view(ctx.shape).requires_grad_()  # (B, T, d)
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(ctx.layer(x), x, grad_outputs[0])
        return gradient, None, None
