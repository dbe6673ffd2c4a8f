"""The layers of a Llama-like model as few large operations, for decoding and for passes through the frozen weights.

Transformers' own layers launch about forty-five small kernels each, which is most of a decode step and all of the
launch time of a short training step. Here query, key and value are one product, gate and up another, and the norm is
one kernel. The model's parameters become views of the joined weights, so nothing is stored twice and the model itself
still works. In fp32 and fp64 every operation is the model's own, so that both ways give the same text.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ray_bridge.gpu.kernels import fused_layer as layer_kernels
from ray_bridge.models.prefix_cache import attends_fully
from ray_bridge.models.soft_context import SoftContext

LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer")
"""Layer classes of transformers that can be fused."""


class Attend(Protocol):
    """The attention of fused layers."""

    def prefix_states(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return keys and values that come before every row's own, (H, h_kv, D) each, or None."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend, q (B, T, h, D), k and v (B, H + T, h_kv, D), all rotated -> (B, T, h, D)."""


@dataclass(frozen=True, kw_only=True)
class FusedLayer:
    """Joined weights of one layer; biases are None if the model has none."""

    norm: Any
    qkv: Tensor
    qkv_bias: Tensor | None
    out: nn.Linear
    mlp_norm: Any
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: nn.Linear


class FusedBody:
    """A frozen decoder whose layers are of one of the classes in `LAYERS`.

    Attributes:
        heads: h, query heads.
        kv_heads: h_kv, key heads.
        head_dim: D.
        scale: factor on the attention scores.
        layers: joined weights.
        silu: whether the MLP's gate is a SiLU.
    """

    def __init__(self, model: Any) -> None:
        base = model.base_model
        first = base.layers[0]
        config = model.config.get_text_config()
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim: int = first.self_attn.head_dim
        self.scale: float = first.self_attn.scaling
        self.activation = first.mlp.act_fn
        self.silu = "silu" in type(self.activation).__name__.lower()
        self.rotary, self.final_norm = base.rotary_emb, base.norm
        self.layers = [_fuse(layer) for layer in base.layers]

    @staticmethod
    def supports(model: Any) -> bool:
        """Return whether a model's layers can be fused: known classes (gated MLP, RMS norms) with full attention."""
        layers = getattr(model.base_model, "layers", None)
        if layers is None or any(type(layer).__name__ not in LAYERS for layer in layers):
            return False
        return attends_fully(model.config.get_text_config())

    def __call__(
        self,
        x: Tensor,
        positions: Tensor,
        attend: Attend,
        *,
        stop: int | None = None,
        recompute: bool = False,
        context: SoftContext | None = None,
    ) -> Tensor:
        """Run layers.

        Args:
            x: (B, T, d) inputs in embedding space.
            positions: (B, T).
            attend: the layers' attention.
            stop: number of layers to run; None runs all.
            recompute: keep each layer's input only, and run it again in the backward pass (Chen et al. 2016).
            context: its adapters change the layers' outputs, under the caller's autocast.

        Returns:
            (B, T, d) before the final norm.
        """
        autocast = torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            cos, sin = self.rotary(x, positions)  # (B, T, D)
            angles = (cos.contiguous(), sin.contiguous())  # (B, T, D) each
            for i, layer in enumerate(self.layers[:stop]):
                if recompute and torch.is_grad_enabled():
                    x = checkpoint(
                        self.layer, i, layer, x, angles, attend, use_reentrant=False, preserve_rng_state=False
                    )
                else:
                    x = self.layer(i, layer, x, angles, attend)
                if context is not None:
                    with torch.autocast(x.device.type, enabled=autocast):
                        x = context.apply(i + 1, x)
        return x

    def layer(self, i: int, layer: FusedLayer, x: Tensor, angles: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        """Run one layer, (B, T, d) -> (B, T, d)."""
        B, T, _ = x.shape
        kernels = self.uses_kernels(x)
        qkv = F.linear(normed(layer.norm, x), layer.qkv, layer.qkv_bias)  # (B, T, (h + 2 h_kv) D)
        qkv = qkv.view(B, T, -1, self.head_dim)  # (B, T, h + 2 h_kv, D)
        rotated = layer_kernels.rotate if kernels else rotate
        y = attend(i, *rotated(qkv, *angles, attend.prefix_states(i), self.kv_heads))  # (B, T, h, D)
        x = x + layer.out(y.reshape(B, T, -1))  # (B, T, d)
        gate_up = F.linear(normed(layer.mlp_norm, x), layer.gate_up, layer.gate_up_bias)  # (B, T, 2 m)
        if kernels and self.silu:
            return x + layer.down(layer_kernels.swiglu(gate_up))  # (B, T, d)
        gate, up = gate_up.chunk(2, -1)  # (B, T, m) each
        return x + layer.down(self.activation(gate) * up)  # (B, T, d)

    def uses_kernels(self, x: Tensor) -> bool:
        """Return whether an input goes through the kernels: in half precision, on a GPU where they are right."""
        if not x.is_cuda or x.dtype.itemsize != 2:
            return False
        return layer_kernels.usable(x.device, x.dtype, self.heads, self.kv_heads, self.head_dim)

    def finish(self, x: Tensor) -> Tensor:
        """Apply the final norm, (..., d) -> (..., d)."""
        return normed(self.final_norm, x)


def rotate(
    qkv: Tensor, cos: Tensor, sin: Tensor, prefix: tuple[Tensor, Tensor] | None, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate queries and keys (RoPE, Su et al. 2021), and put the prefix's keys and values before each row's own.

    Args:
        qkv: (B, T, h + 2 h_kv, D).
        cos: (1 or B, T, D).
        sin: (1 or B, T, D).
        prefix: keys and values of the prefix, (H, h_kv, D) each, or None.
        kv_heads: h_kv.

    Returns:
        Queries (B, T, h, D), keys and values (B, H + T, h_kv, D).
    """
    B, half = len(qkv), qkv.shape[-1] // 2
    q, k, v = qkv.split([qkv.shape[2] - 2 * kv_heads, kv_heads, kv_heads], 2)
    signed = torch.cat([-sin[..., :half], sin[..., half:]], -1)[:, :, None]  # (1 or B, T, 1, D)
    q, k = (x * cos[:, :, None] + x.roll(half, -1) * signed for x in (q, k))
    if prefix is not None:
        k, v = (torch.cat([x.expand(B, -1, -1, -1), y], 1) for x, y in zip(prefix, (k, v), strict=True))
    return q, k, v


def normed(norm: Any, x: Tensor) -> Tensor:
    """Apply an RMS norm: one kernel for half precision on a GPU, the model's own operations elsewhere."""
    if x.is_cuda and x.dtype in (torch.bfloat16, torch.float16):
        return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)
    return norm(x)


def _fuse(layer: Any) -> FusedLayer:
    attention, mlp = layer.self_attn, layer.mlp
    qkv, qkv_bias = join_linears([attention.q_proj, attention.k_proj, attention.v_proj])
    gate_up, gate_up_bias = join_linears([mlp.gate_proj, mlp.up_proj])
    return FusedLayer(
        norm=layer.input_layernorm,
        qkv=qkv,
        qkv_bias=qkv_bias,
        out=attention.o_proj,
        mlp_norm=layer.post_attention_layernorm,
        gate_up=gate_up,
        gate_up_bias=gate_up_bias,
        down=mlp.down_proj,
    )


def join_linears(parts: list[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Join linear maps of the same input into one weight and bias, of which their own become views."""
    weight = torch.cat([part.weight.detach() for part in parts])  # (sum of outputs, inputs)
    has_bias = parts[0].bias is not None
    bias = torch.cat([part.bias.detach() for part in parts]) if has_bias else None
    start = 0
    for part in parts:
        stop = start + part.weight.shape[0]
        part.weight.data = weight[start:stop]
        if bias is not None:
            part.bias.data = bias[start:stop]
        start = stop
    return weight, bias
