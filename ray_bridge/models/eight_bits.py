"""Frozen weights of 8 bits: the products of a model's layers hold integers and one scale a row (torchao's int8).

Weights alone are rounded: products are computed in the model's dtype, forward and backward, so gradients reach the
inputs. Embeddings, head and norms stay as they are. Only the frozen target of a job may be held so.

torchao's own product keeps each weight in the model's dtype from the forward to the backward pass, so that a training
step would hold all of them, and scales what it has summed, which overflows in float16. `RoundedLinear` does neither.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_common.errors import UserError


def round_layers(layers: Iterable[nn.Module], device: torch.device) -> None:
    """Round the products of layers to 8 bits in place, layer by layer on the device, where they then stay.

    Raises:
        UserError: without torchao.
    """
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise UserError("target_precision=int8 needs torchao: pip install 'ray-bridge[int8]'") from error
    for layer in layers:
        quantize_(layer, Int8WeightOnlyConfig(), device=device)
        for module in layer.modules():
            if isinstance(module, nn.Linear) and _rounded(module.weight):
                module.__class__ = RoundedLinear


class RoundedLinear(nn.Linear):
    """A product with weights of 8 bits, written out while they are used, in both passes, and not kept between them."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, (..., inputs) -> (..., outputs), with gradient to the inputs alone."""
        weight: Any = self.weight
        product: Tensor = _Product.apply(x, weight.qdata, weight.scale)
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """The product of inputs and written-out weights; keeps integers and scales, which the model holds anyway."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, integers: Tensor, scales: Tensor) -> Tensor:
        ctx.save_for_backward(integers, scales)
        return F.linear(x, _write_out(integers, scales, x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,), (integers, scales) = grads, ctx.saved_tensors
        return grad @ _write_out(integers, scales, grad.dtype), None, None


def _write_out(integers: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Return integers (outputs, inputs) times scales (outputs, 1), rounded once, in one kernel on a GPU."""
    return torch.mul(integers, scales, out=torch.empty(integers.shape, dtype=dtype, device=integers.device))


def has_eight_bits(model: Any) -> bool:
    """Return whether weights of a model were rounded to 8 bits."""
    return any(_rounded(parameter) for parameter in model.parameters())


def held_bytes(module: nn.Module) -> int:
    """Return the bytes that the weights of a module take, of those of 8 bits their integers and scales."""
    weights: set[Any] = set(module.parameters())
    parts = [part for w in weights for part in ([w.qdata, w.scale, w.zero_point] if _rounded(w) else [w])]
    return sum(part.nbytes for part in parts if part is not None)


def values_of(weight: Tensor) -> Tensor:
    """Return the values of a weight as one computes with them: of one of 8 bits, its integers times its scales."""
    rounded: Any = weight
    return _write_out(rounded.qdata, rounded.scale, weight.dtype) if _rounded(weight) else weight


def _rounded(weight: Tensor) -> bool:
    return hasattr(weight, "qdata")
