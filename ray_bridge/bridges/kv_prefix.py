"""The rival whose target reads no soft tokens but keys and values, in every layer (prefix tuning, Li & Liang 2021).

Each of the bridge's K slots becomes one key and one value in every layer, which all tokens of the target attend to.
They take no place in the sequence: positions are those of the text alone, and the keys are not rotated. As in prefix
tuning, one network shared by the layers, whose last layer is each layer's own, makes them from the slots.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.row_cache import WrittenCache
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.row_prefix import RowPrefix, layer_scales
from ray_bridge.models.soft_context import SoftContext


class KVPrefix(nn.Module):
    """Makes keys and values of every layer of the target from soft tokens.

    They start at the size of the target's own, which is measured, times a learned gain for each layer.

    Args:
        spec: the job.
        target: the frozen target.
    """

    def __init__(self, spec: JobSpec, target: FrozenLM) -> None:
        super().__init__()
        self.scales: Tensor
        self.register_buffer("scales", torch.stack(layer_scales(target), 1))  # (layers, 2)
        self.heads = getattr(target.config, "num_key_value_heads", None) or target.config.num_attention_heads
        size = getattr(target.config, "head_dim", None) or target.hidden_size // target.config.num_attention_heads
        width, layers = spec.hidden_size, target.num_layers
        self.norm, self.inner_norm = nn.LayerNorm(target.hidden_size), nn.LayerNorm(width)
        self.down = nn.Linear(target.hidden_size, width)
        self.up = nn.ModuleList(nn.Linear(width, 2 * self.heads * size) for _ in range(layers))
        self.gain = nn.Parameter(torch.ones(layers, 2))
        for layer in self.up:
            nn.init.normal_(layer.weight, std=width**-0.5)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def keys_values(self, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return keys and values of each layer, (B, K, d_t) -> (B, h_kv, K, D) each."""
        x = self.inner_norm(F.gelu(self.down(self.norm(tokens.to(self.gain.dtype)))))  # (B, K, w)
        factors = self.gain * self.scales  # (layers, 2)
        keys, values = [], []
        for up, factor in zip(self.up, factors, strict=True):
            made = up(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (2, B, h_kv, K, D)
            keys.append(made[0] * factor[0])
            values.append(made[1] * factor[1])
        return keys, values

    def rehearse(self, tokens: Tensor) -> None:
        """Compute what this adds to a question, for a count of its FLOPs."""
        self.keys_values(tokens)

    def forward(self, lm: FrozenLM, rows: Sequence[Row], soft: SoftContext) -> WrittenCache:
        """Return the keys and values before each of B rows, which are read whole after them."""
        keys, values = self.keys_values(soft.tokens)
        mask = torch.ones(soft.tokens.shape[:2], dtype=torch.long, device=lm.device)  # (B, K)
        prefix = RowPrefix(keys=[k.to(lm.dtype) for k in keys], values=[v.to(lm.dtype) for v in values], mask=mask)
        return WrittenCache(prefix=prefix, rows=rows, positions=torch.zeros(len(rows), dtype=torch.long))
