"""Injection: how soft tokens enter the target.

    prepend     as tokens of the sequence, before the prompt or the question
    residual    added to the embeddings of the question's tokens, through a gate
    adapter     read by gated cross-attention in some layers of the target (Flamingo, Alayrac et al. 2022)
    kv_prefix   turned into keys and values of every layer of the target (prefix tuning, Li & Liang 2021)
    c2c         the source's cache, fused into the target's (Cache-to-Cache, Fu et al. 2025)

All but the first add no positions. Gates of residual and adapter start at `gate_init`: at 0 the untrained target
answers as it does alone, but the gradient of its answers reaches the bridge through a gate that is all but closed.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_common.errors import UserError
from ray_bridge.bridges.c2c import CacheFuser
from ray_bridge.bridges.kv_prefix import KVPrefix
from ray_bridge.bridges.layers import Attention
from ray_bridge.config.spec import JobSpec
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.windows import attends_fully


class Residual(nn.Module):
    """Multiplies soft tokens by one learned gate, before they are added to embeddings."""

    def __init__(self, gate: float) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor(gate))

    def forward(self, soft: Tensor) -> Tensor:
        """Scale soft tokens, (B, K, d_t) -> (B, K, d_t)."""
        return self.gate * soft


class Adapter(nn.Module):
    """Adds to a layer's output gated cross-attention of its tokens to the soft tokens.

    Args:
        size: d_t.
        width: w, of the attention.
        heads: attention heads.
    """

    def __init__(self, size: int, width: int, heads: int, gate: float) -> None:
        super().__init__()
        self.norm, self.context_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.down, self.context_down = nn.Linear(size, width), nn.Linear(size, width)
        self.attention = Attention(width, heads)
        self.up = nn.Linear(width, size)
        self.gate = nn.Parameter(torch.tensor(gate))

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """Apply the adapter: hidden (B, L, d_t), context (B, K, d_t) -> (B, L, d_t), in the dtype of `hidden`."""
        dtype = self.gate.dtype
        x = self.down(self.norm(hidden.to(dtype)))  # (B, L, w)
        y = self.attention(x, self.context_down(self.context_norm(context.to(dtype))))  # (B, L, w)
        return hidden + (self.gate.tanh() * self.up(y)).to(hidden.dtype)  # (B, L, d_t)


class Injection(nn.Module):
    """The trained part of an injection; without parameters under `prepend`.

    Raises:
        UserError: if the job names layers that the target lacks.
    """

    def __init__(self, spec: JobSpec, target: FrozenLM, source: FrozenLM | None = None) -> None:
        super().__init__()
        self.residual = Residual(spec.gate_init) if spec.injection == "residual" else None
        layers = adapted_layers(spec, target) if spec.injection == "adapter" else ()
        sizes = (target.hidden_size, spec.hidden_size, spec.num_heads)
        self.writer = cache_writer(spec, source, target)
        self._adapters = nn.ModuleDict({str(layer): Adapter(*sizes, spec.gate_init) for layer in layers})

    @property
    def adapters(self) -> Mapping[int, nn.Module]:
        """Adapters by the number of the layer whose output they change, counted from 1."""
        return {int(layer): module for layer, module in self._adapters.items()}

    def gates(self) -> dict[str, float]:
        """Return the value of each gate, by the name of its metric: empty under `prepend`."""
        named = {f"gate/layer{layer}": cast(Adapter, adapter).gate for layer, adapter in self.adapters.items()}
        if self.residual is not None:
            named["gate/residual"] = self.residual.gate
        if isinstance(self.writer, CacheFuser):
            return self.writer.gate_values()
        return {name: float(gate.detach()) for name, gate in named.items()}

    def forward(self, soft: Tensor, mask: Tensor | None = None) -> SoftContext:
        """Return what the target is given for Z, (B, K, d_t): the tokens, gated under `residual`, and what reads them.

        Args:
            soft: Z; under `c2c` the source's cache.
            mask: (B, S) of the bridge's input, by which a cache's tokens are there; others have no use for it.
        """
        tokens = soft if self.residual is None else cast(Tensor, self.residual(soft))  # (B, K, d_t)
        return SoftContext(adapters=self.adapters, tokens=tokens, writer=self.writer, mask=self._mask(tokens, mask))

    def _mask(self, tokens: Tensor, mask: Tensor | None) -> Tensor | None:
        if mask is None or not isinstance(self.writer, CacheFuser):
            return None
        return F.pad(mask, (0, tokens.shape[1] - mask.shape[1]))  # (B, T)


def cache_writer(spec: JobSpec, source: FrozenLM | None, target: FrozenLM) -> nn.Module | None:
    """Return what writes into the target's keys and values, None for an injection that does not.

    Raises:
        UserError: if a layer of the target does not see all earlier positions.
    """
    if not spec.writes_cache:
        return None
    if not attends_fully(target.config):
        raise UserError(
            f"injection={spec.injection}: layers of {target.name} see a window of its text alone: use prepend"
        )
    if spec.injection == "kv_prefix":
        return KVPrefix(spec, target)
    if source is None or not attends_fully(source.config):
        name = "the source" if source is None else source.name
        raise UserError(f"injection=c2c: layers of {name} see a window of its text alone: use another source")
    return CacheFuser(spec, source, target)


def adapted_layers(spec: JobSpec, target: FrozenLM) -> tuple[int, ...]:
    """Return the target's layers that get an adapter, in order.

    Raises:
        UserError: for a layer that the target does not have.
    """
    layers = spec.adapter_layers or tuple(range(2, target.num_layers + 1, 2)) or (1,)
    missing = [layer for layer in layers if not 1 <= layer <= target.num_layers]
    if missing:
        listed = ",".join(map(str, missing))
        raise UserError(f"adapter_layers={listed}: {target.name} has layers 1 to {target.num_layers}")
    return tuple(sorted(set(layers)))
