"""The weights of one decoder layer as fused layers use them: joined products, norms, rotary frequencies, windows.

Families differ in small ways, which are all here: Qwen 3 norms each query and key head, Phi-3 stores its products
joined, Gemma 3 norms what attention and MLP return, has norms of weight 1 + w, and rotates its local layers by
frequencies of their own.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_common.errors import UserError
from ray_bridge.models.eight_bits import has_eight_bits
from ray_bridge.models.windows import layer_windows

LAYERS = (
    *("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer"),
    *("Qwen3DecoderLayer", "Phi3DecoderLayer", "Gemma3DecoderLayer"),
)
"""Layer classes of transformers that can be fused."""


class Norm:
    """An RMS norm: the model's own operations in fp32 and fp64, and one kernel for half precision on a GPU.

    Args:
        module: the model's norm.

    Attributes:
        weight: factor on each feature.
        eps: added to the mean square.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.eps: float = getattr(module, "variance_epsilon", None) or module.eps
        self.wide = type(module).__name__.startswith("Gemma")  # rounds once, after the factor 1 + w in fp32
        self.weight: Tensor = 1 + module.weight.detach().float() if self.wide else module.weight.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the normed features, (..., d) -> (..., d)."""
        if not x.is_cuda or x.dtype.itemsize != 2:
            normed: Tensor = self.module(x)
            return normed
        if self.wide:
            return F.rms_norm(x.float(), (x.shape[-1],), self.weight, self.eps).to(x.dtype)
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class Rotary:
    """The cosines and sines of one type of layer, from the frequencies that the model was loaded with.

    transformers' own module reads the positions to choose frequencies (longrope, dynamic), which waits for the
    device and would make a text's states depend on the longest text of its batch.

    Args:
        module: the model's rotary embedding.
        layer_type: whose frequencies, for models that have several.
    """

    def __init__(self, module: Any, layer_type: str | None) -> None:
        prefix = "" if layer_type is None else f"{layer_type}_"
        self.module = module
        self.name = f"{prefix}original_inv_freq" if hasattr(module, f"{prefix}original_inv_freq") else "inv_freq"
        self.scaling: float = getattr(module, f"{prefix}attention_scaling")

    @torch.no_grad()
    def __call__(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, (B, T, rotated features of a head) each, contiguous, in the dtype of `x`."""
        frequencies = getattr(self.module, self.name).to(x.device, torch.float32)  # (r / 2,)
        angles = positions[..., None].float() * frequencies  # (B, T, r / 2)
        angles = torch.cat([angles, angles], -1)  # (B, T, r)
        return (angles.cos() * self.scaling).to(x.dtype), (angles.sin() * self.scaling).to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class FusedLayer:
    """Joined weights of one layer; biases and norms are None if the model has none.

    Attributes:
        norm: before attention.
        q_norm: over each query head.
        k_norm: over each key head.
        after_attention: of what attention returns, before it is added.
        mlp_norm: before the MLP.
        after_mlp: of what the MLP returns, before it is added.
        window: positions that the layer sees, its own included; None for all.
        rotary: type of the layer's rotary embedding.
    """

    norm: Norm
    qkv: Tensor
    qkv_bias: Tensor | None
    q_norm: Norm | None
    k_norm: Norm | None
    out: nn.Linear
    after_attention: Norm | None
    mlp_norm: Norm
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: nn.Linear
    after_mlp: Norm | None
    window: int | None
    rotary: str


def decoder_of(model: Any) -> Any:
    """Return the module that holds a model's decoder layers, also of models that read more than text."""
    return getattr(model.base_model, "language_model", model.base_model)


def decoder_layers(model: nn.Module, count: int, name: str) -> nn.ModuleList:
    """Return a model's list of `count` decoder layers, of any architecture.

    Raises:
        UserError: if it has none.
    """
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UserError(f"{name}: no list of {count} decoder layers in a {type(model).__name__}; use a decoder-only model")


def why_not_fused(model: Any) -> str | None:
    """Return in a few words why a model's layers cannot be fused; None if they can."""
    config = model.config.get_text_config()
    layers = getattr(decoder_of(model), "layers", None)
    names = sorted({type(layer).__name__ for layer in layers or ()})
    if has_eight_bits(model):
        return "its weights have 8 bits"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps its attention scores"
    if not names or set(names) - set(LAYERS):
        known = ", ".join(name.removesuffix("DecoderLayer") for name in LAYERS)
        return f"a {' and '.join(names) or type(model).__name__} is none of {known}"
    if layer_windows(config) is None:
        return "its attention is neither causal over all positions nor over a window"
    return None


def fuse_layers(model: Any) -> list[FusedLayer]:
    """Join the weights of every layer; the model's own parameters become views of them, so nothing is stored twice."""
    config, decoder = model.config.get_text_config(), decoder_of(model)
    windows = layer_windows(config)
    assert windows is not None
    types = list(getattr(config, "layer_types", None) or ["full_attention"] * len(windows))
    parts = zip(decoder.layers, windows, types, strict=True)
    return [_fuse(layer, window, kind) for layer, window, kind in parts]


def rotaries(model: Any) -> dict[str, Rotary]:
    """Return the rotary embedding of each type of layer."""
    config, module = model.config.get_text_config(), decoder_of(model).rotary_emb
    types = set(getattr(config, "layer_types", None) or ["full_attention"])
    several = not hasattr(module, "inv_freq")
    return {kind: Rotary(module, kind if several else None) for kind in types}


def _fuse(layer: Any, window: int | None, kind: str) -> FusedLayer:
    attention, mlp = layer.self_attn, layer.mlp
    stored = hasattr(attention, "qkv_proj")  # Phi-3: joined already
    qkv = [attention.qkv_proj] if stored else [attention.q_proj, attention.k_proj, attention.v_proj]
    gate_up = [mlp.gate_up_proj] if stored else [mlp.gate_proj, mlp.up_proj]
    sandwich = hasattr(layer, "pre_feedforward_layernorm")  # Gemma: norms before and after
    (qkv_weight, qkv_bias), (gate_up_weight, gate_up_bias) = join_linears(qkv), join_linears(gate_up)
    return FusedLayer(
        norm=Norm(layer.input_layernorm),
        qkv=qkv_weight,
        qkv_bias=qkv_bias,
        q_norm=Norm(attention.q_norm) if hasattr(attention, "q_norm") else None,
        k_norm=Norm(attention.k_norm) if hasattr(attention, "k_norm") else None,
        out=attention.o_proj,
        after_attention=Norm(layer.post_attention_layernorm) if sandwich else None,
        mlp_norm=Norm(layer.pre_feedforward_layernorm if sandwich else layer.post_attention_layernorm),
        gate_up=gate_up_weight,
        gate_up_bias=gate_up_bias,
        down=mlp.down_proj,
        after_mlp=Norm(layer.post_feedforward_layernorm) if sandwich else None,
        window=window,
        rotary=kind,
    )


def join_linears(parts: list[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Join linear maps of the same input into one weight and bias, of which their own become views."""
    has_bias = parts[0].bias is not None
    if len(parts) == 1:
        return parts[0].weight.detach(), parts[0].bias.detach() if has_bias else None
    weight = torch.cat([part.weight.detach() for part in parts])  # (sum of outputs, inputs)
    bias = torch.cat([part.bias.detach() for part in parts]) if has_bias else None
    start = 0
    for part in parts:
        stop = start + part.weight.shape[0]
        part.weight.data = weight[start:stop]
        if bias is not None:
            part.bias.data = bias[start:stop]
        start = stop
    return weight, bias
