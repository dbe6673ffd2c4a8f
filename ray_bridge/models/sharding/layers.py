"""Cut a model's layers into parts: heads of attention and features of the MLP are shared out among processes.

Embeddings, norms and the head stay whole on every process: they are a thirtieth of a 70B model, everything that reads
the embedding table goes on working, and logits need no communication. What the layers compute from a part is the
model's own code, which takes the number of heads from the shape of its weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.footprint.shards import check_shards
from ray_bridge.models.fused_layers import decoder_of
from ray_bridge.models.sharding.group import ShardGroup

_BY_OUTPUTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
_BY_INPUTS = ("self_attn.o_proj", "mlp.down_proj")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which slice of a whole parameter a process holds.

    Attributes:
        dim: the dimension that is cut.
        begin: first index of the slice.
        end: index after its last.
    """

    dim: int
    begin: int
    end: int

    def of(self, whole: Tensor) -> Tensor:
        """Return the slice, a view of the whole parameter."""
        return whole.narrow(self.dim, self.begin, self.end - self.begin)

    @property
    def index(self) -> tuple[slice, ...]:
        """The slice as an index, for files whose tensors are read in part."""
        return (*(slice(None) for _ in range(self.dim)), slice(self.begin, self.end))


class SummedLinear(nn.Linear):
    """A product that is cut by its inputs: the sum of all processes' results is the whole product.

    Args:
        whole: the linear map whose weight is, or will be, a process's part.
        group: the processes.
    """

    def __init__(self, whole: nn.Linear, group: ShardGroup) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.group = whole.in_features, whole.out_features, group
        self.weight = whole.weight
        self.register_parameter("bias", whole.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the whole product, (..., inputs of this part) -> (..., outputs)."""
        y = self.group.sum(F.linear(x, self.weight))
        return y if self.bias is None else y + self.bias


def cut_layers(model: Any, name: str, group: ShardGroup) -> dict[str, Part]:
    """Make a model's layers compute with parts of their weights, and say which; the parameters are still whole.

    Args:
        model: a transformers model; its parameters may be on the meta device.
        name: of the checkpoint, for messages.
        group: the processes that hold the parts.

    Returns:
        This process's part of each parameter that is cut, by the parameter's name.

    Raises:
        UserError: if the model's layers cannot be cut into so many parts.
    """
    check_shards(ModelShape.from_config(model.config.get_text_config(), name, 1), group.size)
    decoder = decoder_of(model)
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    parts: dict[str, Part] = {}
    for number, layer in enumerate(decoder.layers):
        for module, dim in [*((m, 0) for m in _BY_OUTPUTS), *((m, 1) for m in _BY_INPUTS)]:
            linear = cast(nn.Linear, layer.get_submodule(module))
            each = linear.weight.shape[dim] // group.size
            part = Part(dim=dim, begin=group.rank * each, end=(group.rank + 1) * each)
            place = f"{prefix}.layers.{number}.{module}"
            parts[f"{place}.weight"] = part
            if dim == 0 and linear.bias is not None:
                parts[f"{place}.bias"] = part
            if dim == 1:
                layer.set_submodule(module, SummedLinear(linear, group))
        for block in (layer.self_attn, layer.mlp):
            block.register_forward_pre_hook(_entering(group), with_kwargs=True)
    return parts


def shard_model(model: Any, name: str, group: ShardGroup) -> Any:
    """Cut a model that is whole in memory: its parameters become copies of this process's parts. Return the model."""
    parts = cut_layers(model, name, group)
    for parameter, part in parts.items():
        replace_parameter(model, parameter, part.of(model.get_parameter(parameter).detach()).clone())
    return model


def replace_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Put a frozen tensor in the place of a model's parameter of any shape and device."""
    module, _, own = name.rpartition(".")
    model.get_submodule(module).register_parameter(own, nn.Parameter(value, requires_grad=False))


def _entering(group: ShardGroup) -> Any:
    def hook(_module: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        if "hidden_states" in named:
            return arguments, {**named, "hidden_states": group.enter(named["hidden_states"])}
        return (group.enter(arguments[0]), *arguments[1:]), dict(named)

    return hook


def local_bytes(model: nn.Module) -> int:
    """Return the bytes of the parameters that this process holds, shared ones once."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.device != torch.device("meta"))
