"""The models' forward pass as plain functions, so that one compiled layer serves all layers of a model.

They take the parameters of transformers' modules and give the same output up to rounding, which is checked before
training starts. Attention is causal, without a padding mask, because pads are on the right and have no loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel


def rope_table(theta: float, width: int, positions: int, device: str) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of rotary position embedding, (positions, width) each."""
    frequency = 1.0 / theta ** (torch.arange(0, width, 2, device=device).float() / width)
    angle = torch.arange(positions, device=device).float()[:, None] * frequency
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def layer(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    weights: tuple[Tensor, ...],
    head_width: int,
    eps: float,
) -> Tensor:
    """Compute one decoder layer as Llama and Mistral have it.

    Args:
        x: (B, S, d).
        cos: (S, head_width).
        sin: (S, head_width).
        weights: the layer's nine weights, as `layer_weights` orders them.
        head_width: width of a head.
        eps: of RMSNorm.

    Returns:
        (B, S, d).
    """
    norm1, wq, wk, wv, wo, norm2, gate, up, down = weights
    B, S, d = x.shape

    def rotated(t: Tensor) -> Tensor:
        a, b = t.chunk(2, -1)
        return t * cos + torch.cat([-b, a], -1) * sin

    h = F.rms_norm(x, (d,), norm1, eps)
    q = rotated(F.linear(h, wq).view(B, S, -1, head_width).transpose(1, 2))  # (B, heads, S, head_width)
    k = rotated(F.linear(h, wk).view(B, S, -1, head_width).transpose(1, 2))
    v = F.linear(h, wv).view(B, S, -1, head_width).transpose(1, 2)
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    o = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
    x = x + F.linear(o.transpose(1, 2).reshape(B, S, -1), wo)
    h = F.rms_norm(x, (d,), norm2, eps)
    return x + F.linear(F.silu(F.linear(h, gate)) * F.linear(h, up), down)  # (B, S, d)


def loss_head(x: Tensor, norm: Tensor, table: Tensor, eps: float, labels: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of the next-token loss for states x (B, S, d), labels and weights (B, S)."""
    logits = F.linear(F.rms_norm(x, (x.shape[-1],), norm, eps), table).float()  # (B, S, V)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(weight)
    return (loss * weight).sum() / weight.sum()


def layer_weights(model: PreTrainedModel) -> list[tuple[Tensor, ...]]:
    """Return each layer's nine weights, in the order that `layer` takes."""
    return [
        (
            m.input_layernorm.weight,
            m.self_attn.q_proj.weight,
            m.self_attn.k_proj.weight,
            m.self_attn.v_proj.weight,
            m.self_attn.o_proj.weight,
            m.post_attention_layernorm.weight,
            m.mlp.gate_proj.weight,
            m.mlp.up_proj.weight,
            m.mlp.down_proj.weight,
        )
        for m in model.model.layers
    ]


def hidden_states(
    model: PreTrainedModel, embeds: Tensor, rope: tuple[Tensor, Tensor], run: Callable[..., Tensor] = layer
) -> list[Tensor]:
    """Return the states after 0, 1 ... depth layers for embedded tokens (B, S, d), before the final norm."""
    states = [embeds]
    cos, sin = rope[0][: embeds.shape[1]], rope[1][: embeds.shape[1]]
    for weights in layer_weights(model):
        states.append(run(states[-1], cos, sin, weights, model.config.head_dim, model.config.rms_norm_eps))
    return states


def disagreement(model: PreTrainedModel, ids: Tensor, rope: tuple[Tensor, Tensor]) -> float:
    """Return the largest difference between this forward pass's logits of ids (B, S) and transformers'."""
    with torch.no_grad():
        x = hidden_states(model, model.get_input_embeddings()(ids), rope)[-1]
        x = F.rms_norm(x, (x.shape[-1],), model.model.norm.weight, model.config.rms_norm_eps)
        logits = F.linear(x, model.get_input_embeddings().weight)
        return float((logits - model(input_ids=ids, use_cache=False).logits).abs().max())
