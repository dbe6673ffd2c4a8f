"""The rival whose target reads no soft tokens but keys and values, in every layer (prefix tuning, Li & Liang 2021).

Each of the bridge's K slots becomes one key and one value in every layer, which all tokens of the target attend to.
They take no place in the sequence: positions are those of the text alone, and the keys are not rotated. As in prefix
tuning, one network shared by the layers, whose last layer is each layer's own, makes them from the slots.

It starts as the linear map that predicts best, from a token's embedding, the keys and values that the target itself
computes of the token. Keys and values of the right size in random directions were tried first: they spoil all answers
at the start, and in ten steps training learned to have them ignored, for good.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.row_cache import WrittenCache
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.row_prefix import RowPrefix, read_rows
from ray_bridge.models.soft_context import SoftContext

ROWS, LENGTH = 64, 32
"""Rows of random tokens, and tokens of each, on which the initial map is fitted."""
STRENGTH = 1e-3
"""Ridge of that fit, in units of the mean variance of an input."""


class KVPrefix(nn.Module):
    """Makes keys and values of every layer of the target from soft tokens.

    Args:
        spec: the job.
        target: the frozen target.
    """

    def __init__(self, spec: JobSpec, target: FrozenLM) -> None:
        super().__init__()
        self.heads = getattr(target.config, "num_key_value_heads", None) or target.config.num_attention_heads
        size = getattr(target.config, "head_dim", None) or target.hidden_size // target.config.num_attention_heads
        width = spec.hidden_size
        self.norm = nn.LayerNorm(target.hidden_size)
        self.down = nn.Linear(target.hidden_size, width, bias=False)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.up = nn.ModuleList(nn.Linear(width, 2 * self.heads * size) for _ in range(target.num_layers))
        for parameter in self.mlp[-1].parameters():
            nn.init.zeros_(parameter)
        self._fit(target)

    @torch.no_grad()
    def _fit(self, target: FrozenLM) -> None:
        """Set the linear part to the ridge regression of the target's keys and values on its embeddings."""
        vocabulary = target.embedding.weight.shape[0]
        drawn = torch.randint(vocabulary, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
        keys, values, _ = read_rows(target, drawn.tolist())
        x = F.layer_norm(target.embed(drawn.to(target.device)).double().cpu(), (target.hidden_size,)).flatten(0, 1)
        directions = torch.linalg.eigh(x.T @ x)[1].flip(1)[:, : self.down.out_features]  # (d_t, w or fewer)
        directions = directions / (x @ directions).pow(2).mean().sqrt()
        self.down.weight[: directions.shape[1]] = directions.T.float()  # others stay as they were drawn
        h = x @ self.down.weight.double().cpu().T  # (N, w)
        center = h.mean(0)  # (w,)
        square = (h - center).T @ (h - center)  # (w, w)
        square += STRENGTH * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
            made = torch.stack([k, v], 2).permute(0, 3, 2, 1, 4).double().cpu()  # (rows, length, 2, h_kv, D)
            y = made.flatten(2).flatten(0, 1)  # (N, 2 h_kv D)
            weight = torch.linalg.solve(square, (h - center).T @ (y - y.mean(0)))  # (w, 2 h_kv D)
            up = self.up[layer]
            up.weight.copy_(weight.T)  # type: ignore[operator]
            up.bias.copy_(y.mean(0) - center @ weight)  # type: ignore[operator]

    def keys_values(self, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return keys and values of each layer, (B, K, d_t) -> (B, h_kv, K, D) each."""
        x = self.down(self.norm(tokens.to(self.down.weight.dtype)))  # (B, K, w)
        x = x + self.mlp(x)  # (B, K, w)
        keys, values = [], []
        for up in self.up:
            made = up(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (2, B, h_kv, K, D)
            keys.append(made[0])
            values.append(made[1])
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
