"""Toggle `geometry_projection`: bring source states to the target's tokens, embedding space and position code.

1. Segmentation. States of the source's tokens are averaged over the bytes of each of the target's tokens.
2. Linear map d_s -> d_t. It is trained, and starts as a fit between the two embedding tables (embedding_map.py).
3. Phase. RoPE (Su et al. 2021) rotates queries and keys only, so hidden states have no rotation to undo. What can be
   added is the target's position code: the rotation that its attention applies at the token's index, times a learned
   gain for each frequency that starts at 0.

Off: the bridge's own input layer reads the raw source states.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.gpu.transfer import send
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.models.embedding_map import FitOnce, fit_here, fit_map, shared_embeddings
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_alignment import TokenAlignment


class GeometryProjection(nn.Module):
    """Maps states (B, S, d_s) of the source's tokens to states (B, T, d_t) of the target's tokens.

    Args:
        source: the frozen source.
        target: the frozen target.
        soft_tokens: number of soft tokens in the target's sequence, which shift the tokens' positions.
        init: kind of the fit from which the linear map starts; see `fit_map`.
        fit_once: fits the map once for all workers and trials on a node.

    Attributes:
        initialisation: metrics of that fit: number of shared vocabulary strings, and R² on held-out ones.
    """

    def __init__(
        self,
        source: FrozenLM,
        target: FrozenLM,
        *,
        soft_tokens: int,
        init: Literal["ridge", "procrustes"],
        fit_once: FitOnce = fit_here,
    ) -> None:
        super().__init__()
        self.soft_tokens = soft_tokens
        fitted = fit_once(lambda: fit_map(*shared_embeddings(source, target), init))
        self.initialisation = {"geometry/pairs": float(fitted.pairs), "geometry/held_out_r2": fitted.held_out_r2}
        self.linear = nn.Linear(source.hidden_size, target.hidden_size)
        with torch.no_grad():
            self.linear.weight.copy_(fitted.weight)
            self.linear.bias.copy_(fitted.bias)
        frequencies = inverse_frequencies(target)
        self.phase = None if frequencies is None else RotaryPhase(frequencies, target.hidden_size)

    def token_inputs(
        self, items: Sequence[Encoded], states: Tensor, rounded: Callable[[int], int] = int
    ) -> tuple[Tensor, ...]:
        """Return what `forward` reads besides the states (B, S, d_s) of the items, on the states' device.

        Args:
            items: B examples, encoded with their token alignment.
            states: of the source's tokens.
            rounded: rounds T up; the added positions are masked.

        Returns:
            The mask (B, T) of the target's tokens, their indices (B, T), and what pools states onto them, see
            `pooling_entries`. An index is the token's position in the target's row, under soft_only the one that it
            would have if the prompt were there.
        """
        alignments = [_alignment(item.alignment) for item in items]
        T = rounded(max(len(alignment.tokens) for alignment in alignments))
        mask = torch.zeros(len(items), T, dtype=torch.long)  # (B, T)
        indices = torch.zeros(len(items), T)  # (B, T)
        for i, alignment in enumerate(alignments):
            mask[i, : len(alignment.tokens)] = 1
            indices[i, : len(alignment.tokens)] = torch.from_numpy(alignment.tokens + 1 + self.soft_tokens)
        places, shares, ends = pooling_entries(alignments, T, states.shape[1])
        device = states.device
        return tuple(send(x, device) for x in (mask, indices, places, shares.to(states.dtype), ends))

    def forward(
        self, states: Tensor, mask: Tensor, indices: Tensor, places: Tensor, shares: Tensor, ends: Tensor
    ) -> Tensor:
        """Return one state for each target token of the question, (B, S, d_s) -> (B, T, d_t); see `token_inputs`."""
        with torch.autocast(states.device.type, enabled=False):
            pooled = F.embedding_bag(
                places, states.flatten(0, 1), ends, mode="sum", per_sample_weights=shares, include_last_offset=True
            )  # (B * T, d_s)
            states = self.linear(pooled.unflatten(0, mask.shape))  # (B, T, d_t)
            return states if self.phase is None else self.phase(states, indices)  # (B, T, d_t)


class RotaryPhase(nn.Module):
    """Rotates states by their token's index, times a learned gain for each frequency; at gain 0 it is the identity.

    The gain multiplies the angle's principal value, in (-pi, pi]. So gain 1 is the target's own rotation, every gain
    is a rotation, and a change of gain has as small an effect on the thousandth token as on the first.

    Args:
        frequencies: (F,) inverse frequencies of the target.
        size: d_t; blocks of 2F dimensions are rotated, the remainder is left as it is.
    """

    frequencies: Tensor

    def __init__(self, frequencies: Tensor, size: int) -> None:
        super().__init__()
        count = min(len(frequencies), size // 2)
        self.blocks = size // (2 * count)
        self.register_buffer("frequencies", frequencies[:count].float(), persistent=False)
        self.gain = nn.Parameter(torch.zeros(count))

    def forward(self, states: Tensor, index: Tensor) -> Tensor:
        """Rotate states (B, T, d_t) by their index (B, T) -> (B, T, d_t)."""
        angle = index.to(states)[..., None] * self.frequencies  # (B, T, F)
        angle = self.gain * (math.pi - torch.remainder(math.pi - angle, 2 * math.pi))  # (B, T, F)
        cos, sin = angle.cos()[:, :, None], angle.sin()[:, :, None]  # (B, T, 1, F)
        rotated = self.blocks * 2 * len(self.gain)
        first, second = states[..., :rotated].unflatten(-1, (self.blocks, 2, -1)).unbind(-2)  # (B, T, blocks, F)
        pairs = torch.stack([first * cos - second * sin, second * cos + first * sin], -2)  # (B, T, blocks, 2, F)
        return torch.cat([pairs.flatten(-3), states[..., rotated:]], -1)  # (B, T, d_t)


def pooling_entries(alignments: Sequence[TokenAlignment], T: int, S: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the alignments of a batch as one list of entries, on the CPU; a matrix (B, T, S) is mostly zeros.

    Args:
        alignments: B of them.
        T: rows of each, target tokens with pads.
        S: source tokens with pads.

    Returns:
        For each of n entries the place of its state among B * S, (n,), and its share, (n,), in the order of the rows
        b * T + t, and where each row's entries begin and the last one's end, (B * T + 1,). n depends on B, T and S
        alone, unless more entries are needed; those that are not have share 0.
    """
    rows = np.concatenate([i * T + one.row for i, one in enumerate(alignments)])  # (m,)
    places = np.concatenate([i * S + one.column for i, one in enumerate(alignments)])  # (m,)
    shares = np.concatenate([one.share for one in alignments])  # (m,)
    size = len(alignments) * (T + S)  # enough if tokens of one tokenizer do not overlap
    unused = -len(rows) % size
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(alignments) * T))])  # (B * T + 1,)
    ends[-1] += unused
    return (
        torch.from_numpy(np.pad(places, (0, unused)).astype(np.int64)),
        torch.from_numpy(np.pad(shares, (0, unused))),
        torch.from_numpy(ends.astype(np.int64)),
    )


def inverse_frequencies(lm: FrozenLM) -> Tensor | None:
    """Return the inverse frequencies of a model's rotary module, with its scaling, (F,); None if it has none."""
    buffers = {name: value for name, value in lm.model.named_buffers() if name.endswith("inv_freq")}
    if not buffers:
        return None
    name = next((name for name in buffers if "full_attention" in name), next(iter(buffers)))
    return buffers[name].detach().float().cpu()


def _alignment(alignment: TokenAlignment | None) -> TokenAlignment:
    if alignment is None:
        raise ValueError("examples were encoded without geometry_projection")
    return alignment
