"""The rival that fuses caches (Cache-to-Cache, Fu et al. 2025), written from the paper's description.

The target reads its prompt by itself. In each layer that has a counterpart in the source, counted from the last layers
of both, its keys and values of the question's tokens are changed: the source's keys and values of the aligned token
are projected together with the target's own, weighed head by head, and added through a learned gate of the layer. The
target then answers from the fused cache.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.bridges.layers import ExactScale
from ray_bridge.bridges.whitening import Moments
from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.row_cache import WrittenCache
from ray_bridge.inputs.rows import Row
from ray_bridge.inputs.source_cache import layer_cache_width
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.row_prefix import RowPrefix, read_rows
from ray_bridge.models.soft_context import SoftContext


class CacheReader(nn.Module):
    """Hands on the source's keys and values; all that is trained is in `CacheFuser`.

    Attributes:
        scale: of the interface of bridges; not used, since nothing becomes a soft token.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = ExactScale(1.0).requires_grad_(False)

    @classmethod
    def from_spec(cls, spec: JobSpec, *, source_size: int, target_size: int, target_rms: float) -> Self:
        """Make the bridge that a job asks for; see `Bridge.from_spec`."""
        return cls()

    def moments(self, states: Tensor, mask: Tensor) -> list[Moments]:
        """Return no moments: nothing is whitened."""
        return []

    def fit(self, moments: list[Moments]) -> None:
        """Do nothing: nothing is whitened."""

    def forward(self, states: Tensor, mask: Tensor, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Return the states (B, T, C) as they are."""
        return states


class Projection(nn.Module):
    """Makes the change of one layer's keys, or values, from the target's own and the source's.

    It does not start at zero: then hardly any gradient reaches what is before the last layer.

    Args:
        own: h_t * D_t, numbers of a token in the target's layer.
        other: h_s * D_s, numbers of a token in the source's.
        heads: h_t.
        width: w.
    """

    def __init__(self, own: int, other: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(own + other, width)
        self.fuse = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.weigh = nn.Linear(width, heads)
        self.out = nn.Linear(width, own)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Return the change before its gate, (B, T, h_t * D_t) and (B, T, h_s * D_s) -> (B, T, h_t * D_t)."""
        x = torch.cat([F.layer_norm(part, part.shape[-1:]) for part in (own, other)], -1)  # (B, T, ...)
        x = self.fuse(self.project(x))  # (B, T, w)
        weights = self.weigh(x).sigmoid()[..., None]  # (B, T, h_t, 1)
        change = (self.out(x).unflatten(-1, (self.heads, -1)) * weights).flatten(-2)  # (B, T, h_t * D_t)
        # In units of the target's own, whose size differs from layer to layer.
        return change * own.pow(2).mean(-1, keepdim=True).sqrt()


class CacheFuser(nn.Module):
    """Fuses the source's cache into the target's.

    Args:
        spec: the job.
        source: the frozen source.
        target: the frozen target.
    """

    def __init__(self, spec: JobSpec, source: FrozenLM, target: FrozenLM) -> None:
        super().__init__()
        own, self.other = layer_cache_width(target), layer_cache_width(source)
        heads = getattr(target.config, "num_key_value_heads", None) or target.config.num_attention_heads
        self.own, self.source_layers, self.target_layers = own, source.num_layers, target.num_layers
        count = min(source.num_layers, target.num_layers)
        sizes = (own, self.other, int(heads), spec.hidden_size)
        # Each layer's pair is for keys and values.
        self.layers = nn.ModuleList(nn.ModuleList(Projection(*sizes) for _ in range(2)) for _ in range(count))
        self.gates = nn.Parameter(torch.zeros(count))

    def gate_values(self) -> dict[str, float]:
        """Return the gate of each fused layer, in (0, 1), by the name of its metric; layers count from 1."""
        first = self.target_layers - len(self.layers) + 1
        return {f"gate/layer{first + i}": float(gate) for i, gate in enumerate(self.gates.detach().sigmoid())}

    def changes(self, layer: int, own: Sequence[Tensor], other: Tensor) -> list[Tensor]:
        """Return the gated change of a fused layer's keys and values, (B, T, h_t * D_t) each.

        Args:
            layer: number of the fused layer, from 0.
            own: the target's keys and values, (B, T, h_t * D_t) each.
            other: the source's cache (B, T, C).
        """
        at = self.source_layers - len(self.layers) + layer
        parts = other.unflatten(-1, (self.source_layers, 2, self.other))[..., at, :, :].unbind(-2)  # (B, T, .) twice
        gate = self.gates[layer].sigmoid()
        return [gate * project(*pair) for project, *pair in zip(self.layers[layer], own, parts, strict=True)]  # type: ignore[call-overload]

    def rehearse(self, tokens: Tensor) -> None:
        """Compute what this adds to a question, for a count of its FLOPs."""
        zeros = tokens.new_zeros(*tokens.shape[:2], self.own)
        for layer in range(len(self.layers)):
            self.changes(layer, (zeros, zeros), tokens)

    def forward(self, lm: FrozenLM, rows: Sequence[Row], soft: SoftContext) -> WrittenCache:
        """Return the fused cache of each row's prompt but its last token, which is read after it with the answer.

        Tokens of the question are fused one to one; of a question that belongs to another row, as many as both have.
        """
        ids = [row.before + row.prompt for row in rows]
        keys, values, mask = read_rows(lm, [row[:-1] for row in ids])  # (B, h_t, P, D_t) of each layer, (B, P)
        T, device = soft.tokens.shape[1], lm.device
        begins = torch.tensor([len(row.before) + row.span[0] for row in rows], device=device)  # (B,)
        counts = torch.tensor([row.span[1] - row.span[0] for row in rows], device=device)  # (B,)
        steps = torch.arange(T, device=device)  # (T,)
        at = begins[:, None] + steps  # (B, T)
        fused = (steps < counts[:, None]) & (at < mask.sum(1, keepdim=True))  # (B, T)
        if soft.mask is not None:
            fused = fused & soft.mask.bool()
        at = at.clamp(max=mask.shape[1] - 1)
        skipped = self.target_layers - len(self.layers)
        for layer in range(len(self.layers)):
            caches = keys[skipped + layer], values[skipped + layer]  # (B, h_t, P, D_t) each
            index = at[:, None, :, None].expand(-1, caches[0].shape[1], -1, caches[0].shape[3])  # (B, h_t, T, D_t)
            own = [x.gather(2, index).transpose(1, 2).flatten(2).to(self.gates.dtype) for x in caches]  # (B, T, .) each
            changed = []
            for cache, change in zip(caches, self.changes(layer, own, soft.tokens.to(self.gates.dtype)), strict=True):
                kept = (
                    (change * fused[..., None]).unflatten(-1, (cache.shape[1], -1)).transpose(1, 2)
                )  # (B, h_t, T, D_t)
                changed.append(cache.scatter_add(2, index, kept.to(cache.dtype)))
            keys[skipped + layer], values[skipped + layer] = changed
        lengths = torch.tensor([len(row) - 1 for row in ids])  # (B,)
        rest = [row.after(len(whole) - 1) for row, whole in zip(rows, ids, strict=True)]
        return WrittenCache(prefix=RowPrefix(keys=keys, values=values, mask=mask), rows=rest, positions=lengths)
