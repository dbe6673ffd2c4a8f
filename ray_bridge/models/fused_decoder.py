"""The layers of a Llama-like model as few large operations, for decoding and for passes through the frozen weights.

Transformers' own layers launch about forty-five small kernels each, which is most of a decode step and all of the
launch time of a short training step. Here query, key and value are one product, gate and up another, and the norm is
one kernel. The model itself still works. In fp32 and fp64 every operation is the model's own, so that both ways give
the same text.
"""

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ray_bridge.gpu.kernels import fused_layer as layer_kernels
from ray_bridge.models.fused_layers import FusedLayer, Norm, decoder_of, fuse_layers, rotaries
from ray_bridge.models.prefix_cache import Prefix
from ray_bridge.models.sharding.layers import SummedLinear
from ray_bridge.models.sharding.recompute import run_again
from ray_bridge.models.soft_context import SoftContext


class Attend(Protocol):
    """The attention of fused layers."""

    def prefix_states(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return keys and values that come before every row's own, (H, h_kv, D) each, or None."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend, q (B, T, h, D), the last T of k's and v's positions (B, L, h_kv, D), all rotated -> (B, T, h, D)."""


class FusedBody:
    """A frozen decoder whose layers are of one of the classes in `fused_layers.LAYERS`.

    Attributes:
        heads: h, query heads; of a model in parts those of this process's.
        kv_heads: h_kv, key heads, likewise.
        head_dim: D.
        scale: factor on the attention scores.
        shards: the processes that hold the model's parts, None if this one holds all of it.
        layers: joined weights.
        windows: positions that each layer sees, None for all.
        silu: whether the MLP's gate is a SiLU.
        whole_heads: whether all features of a head are rotated, as the kernels do.
    """

    def __init__(self, model: Any) -> None:
        decoder, config = decoder_of(model), model.config.get_text_config()
        attention, mlp = decoder.layers[0].self_attn, decoder.layers[0].mlp
        self.shards = attention.o_proj.group if isinstance(attention.o_proj, SummedLinear) else None
        parts = 1 if self.shards is None else self.shards.size
        self.heads, self.kv_heads = config.num_attention_heads // parts, config.num_key_value_heads // parts
        self.head_dim: int = attention.head_dim
        self.scale: float = attention.scaling
        self.activation = mlp.activation_fn if hasattr(mlp, "activation_fn") else mlp.act_fn
        self.silu = "silu" in type(self.activation).__name__.lower()
        self.rotaries, self.final_norm = rotaries(model), Norm(decoder.norm)
        self.layers = fuse_layers(model)
        self.windows = [layer.window for layer in self.layers]
        at = torch.zeros(1, 1, dtype=torch.long, device=decoder.norm.weight.device)
        angles = self.angles(decoder.norm.weight, at)
        self.whole_heads = all(cos.shape[-1] == self.head_dim for cos, _ in angles.values())

    def angles(self, x: Tensor, positions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return cosines and sines of positions (B, T) for each type of layer, in the dtype of `x`."""
        return {kind: rotary(x, positions) for kind, rotary in self.rotaries.items()}

    def __call__(
        self,
        x: Tensor,
        positions: Tensor,
        attend: Attend,
        *,
        stop: int | None = None,
        last: int | None = None,
        recompute: bool = False,
        context: SoftContext | None = None,
    ) -> Tensor:
        """Run layers.

        Args:
            x: (B, T, d) inputs in embedding space.
            positions: (B, T).
            attend: the layers' attention.
            stop: number of layers to run; None runs all.
            last: how many positions at the end the last layer computes, with the keys and values of all; None for all.
                Layers that are run again in the backward pass compute all.
            recompute: keep each layer's input only, and run it again in the backward pass (Chen et al. 2016).
            context: its adapters change the layers' outputs, under the caller's autocast.

        Returns:
            (B, T, d) before the final norm; (B, last, d) if only these are computed.
        """
        autocast = torch.is_autocast_enabled(x.device.type)
        y: Tensor | None = None  # (B, T, d), what is still to be added to x: the next norm's kernel does it
        with torch.autocast(x.device.type, enabled=False):
            angles = self.angles(x, positions)  # (B, T, D) twice each
            layers = self.layers[:stop]
            for i, layer in enumerate(layers):
                own = angles[layer.rotary]
                if recompute and torch.is_grad_enabled() and self.shards is not None:
                    x = run_again(partial(self.whole_layer, i, layer, angles=own, attend=attend), x, self.shards)
                elif recompute and torch.is_grad_enabled():
                    x = checkpoint(
                        self.whole_layer, i, layer, x, own, attend, use_reentrant=False, preserve_rng_state=False
                    )
                else:
                    x, y = self.layer(i, layer, x, y, own, attend, last if layer is layers[-1] else None)
                if context is not None:
                    x, y = x if y is None else x + y, None
                    with torch.autocast(x.device.type, enabled=autocast):
                        x = context.apply(i + 1, x)
            return x if y is None else x + y

    @staticmethod
    def leaves_out(prefix: Prefix | None, context: SoftContext | None) -> bool:
        """Return whether the last layer can compute some positions alone, with gradient to all that came before.

        The kernel of attention after a prefix gives keys before the first query none, and an adapter may read others.
        """
        return prefix is None and context is None

    def whole_layer(
        self, i: int, layer: FusedLayer, x: Tensor, angles: tuple[Tensor, Tensor], attend: Attend
    ) -> Tensor:
        """Run one layer, (B, T, d) -> (B, T, d)."""
        x, y = self.layer(i, layer, x, None, angles, attend)
        return x + y

    def layer(
        self,
        i: int,
        layer: FusedLayer,
        x: Tensor,
        y: Tensor | None,
        angles: tuple[Tensor, Tensor],
        attend: Attend,
        last: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run one layer on x + y, (B, T, d) each, y None for nothing; return two tensors whose sum is its output.

        With `last`, they are of so many positions at the end, (B, last, d), which see the keys of all.
        """
        B, T, _ = x.shape
        kernels = self.uses_kernels(x)
        x, normed = self.add_norm(x, y, layer.norm, kernels=kernels)
        qkv = F.linear(self.enter(normed), layer.qkv, layer.qkv_bias)  # (B, T, (h + 2 h_kv) D)
        del normed  # without gradient its memory is free for what follows
        qkv = self.norm_heads(layer, qkv.view(B, T, -1, self.head_dim))  # (B, T, h + 2 h_kv, D)
        rotated = layer_kernels.rotate if kernels and self.whole_heads else rotate
        q, k, v = rotated(qkv, *angles, attend.prefix_states(i), self.kv_heads)
        if last is not None and last < T:
            q, x = q[:, -last:].contiguous(), x[:, -last:].contiguous()  # (B, last, h, D), (B, last, d)
        y = attend(i, q, k, v)  # (B, T or last, h, D)
        y = layer.out(y.flatten(2))  # (B, T or last, d)
        y = y if layer.after_attention is None else layer.after_attention(y)
        x, normed = self.add_norm(x, y, layer.mlp_norm, kernels=kernels)
        gate_up = F.linear(self.enter(normed), layer.gate_up, layer.gate_up_bias)  # (B, T, 2 m)
        del normed
        y = layer.down(self.gated(gate_up, kernels=kernels))  # (B, T, d)
        return x, y if layer.after_mlp is None else layer.after_mlp(y)

    def add_norm(self, x: Tensor, y: Tensor | None, norm: Norm, *, kernels: bool) -> tuple[Tensor, Tensor]:
        """Return x + y, (B, T, d) each, y None for nothing, and its norm, (B, T, d)."""
        if kernels:
            return layer_kernels.add_norm(x, y, norm.weight, norm.eps)
        x = x if y is None else x + y
        return x, norm(x)

    def enter(self, x: Tensor) -> Tensor:
        """Return what a product that is cut by its outputs reads, (..., d); see `ShardGroup.enter`."""
        return x if self.shards is None else self.shards.enter(x)

    def norm_heads(self, layer: FusedLayer, qkv: Tensor) -> Tensor:
        """Norm each query and key head if the layer does, (..., h + 2 h_kv, D) -> the same shape."""
        if layer.q_norm is None or layer.k_norm is None:
            return qkv
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], -2)
        return torch.cat([layer.q_norm(q), layer.k_norm(k), v], -2)

    def gated(self, gate_up: Tensor, *, kernels: bool = False) -> Tensor:
        """Return the activation of the gate times the other half, (..., 2 m) -> (..., m)."""
        if kernels and self.silu:
            return layer_kernels.swiglu(gate_up)
        gate, up = gate_up.chunk(2, -1)  # (..., m) each
        product: Tensor = self.activation(gate) * up
        return product

    def uses_kernels(self, x: Tensor) -> bool:
        """Return whether an input goes through the kernels: in half precision, on a GPU where they are right."""
        if not x.is_cuda or x.dtype.itemsize != 2:
            return False
        return layer_kernels.usable(x.device, x.dtype, self.heads, self.kv_heads, self.head_dim)

    def finish(self, x: Tensor) -> Tensor:
        """Apply the final norm, (..., d) -> (..., d)."""
        return self.final_norm(x)


def rotate(
    qkv: Tensor, cos: Tensor, sin: Tensor, prefix: tuple[Tensor, Tensor] | None, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate queries and keys (RoPE, Su et al. 2021), and put the prefix's keys and values before each row's own.

    Args:
        qkv: (B, T, h + 2 h_kv, D).
        cos: (1 or B, T, r), for the first r features of a head.
        sin: (1 or B, T, r).
        prefix: keys and values of the prefix, (H, h_kv, D) each, or None.
        kv_heads: h_kv.

    Returns:
        Queries (B, T, h, D), keys and values (B, H + T, h_kv, D).
    """
    B, r, D = len(qkv), cos.shape[-1], qkv.shape[-1]
    q, k, v = qkv.split([qkv.shape[2] - 2 * kv_heads, kv_heads, kv_heads], 2)
    signed = torch.cat([-sin[..., : r // 2], sin[..., r // 2 :]], -1)[:, :, None]  # (1 or B, T, 1, r)

    def rotated(x: Tensor) -> Tensor:
        part = x if r == D else x[..., :r]  # (B, T, heads, r)
        part = part * cos[:, :, None] + part.roll(r // 2, -1) * signed
        return part if r == D else torch.cat([part, x[..., r:]], -1)

    q, k = rotated(q), rotated(k)
    if prefix is not None:
        k, v = (torch.cat([x.expand(B, -1, -1, -1), y], 1) for x, y in zip(prefix, (k, v), strict=True))
    return q, k, v
