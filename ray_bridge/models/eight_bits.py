"""Frozen weights of 8 bits: the products of a model's layers hold integers and one scale a row (torchao's int8).

Weights alone are rounded: products are computed in the model's dtype, forward and backward, so gradients reach the
inputs. Embeddings, head and norms stay as they are. Only the frozen target of a job may be held so.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

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


def has_eight_bits(model: Any) -> bool:
    """Return whether weights of a model were rounded to 8 bits."""
    return any(_rounded(parameter) for parameter in model.parameters())


def values_of(weight: Tensor) -> Tensor:
    """Return the values of a weight as one computes with them: of one of 8 bits, its integers times its scales."""
    return weight.dequantize() if _rounded(weight) else weight


def _rounded(weight: Tensor) -> bool:
    return hasattr(weight, "qdata")
