"""The two fixed KV caches of `decode_graphed`: one for fused layers, one for any model of transformers."""

from typing import Literal, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.gpu.kernels import decode_step as kernels
from ray_bridge.inputs.layout import Batch
from ray_bridge.models.attention import AttendAfterPrefix, softmax, use_grouped_attention
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.fused_decoder import FusedBody
from ray_bridge.models.prefix_cache import Prefix
from ray_bridge.models.soft_context import SoftContext


class KVCache(Protocol):
    """Keys and values of many rows, and the forward pass that adds a token to each.

    Attributes:
        pad: the side on which prompts are padded.
        kernels: whether a step runs kernels, which read no more of each row than it has.
    """

    pad: Literal["left", "right"]
    kernels: bool

    def fill(self, places: slice | Tensor, batch: Batch, shortest: int | None = None) -> Tensor:
        """Read prompts into some rows.

        Args:
            places: a slice of the rows, or indices (n,).
            batch: n prompts.
            shortest: length of the shortest: what only texts before its end read need not be computed. None computes
                all positions alike, so that a row's states do not depend on the others' lengths.

        Returns:
            (n, d), the prompts' last hidden states.
        """

    def step(self, embeds: Tensor) -> Tensor:
        """Read one token a row, (b, 1, d); return the last hidden states (b, d).

        Changes only the cache's own tensors, in place, so that a captured step can be replayed.
        """

    def hold(self, rows: Tensor) -> None:
        """Empty the rows that a mask (b,) chooses, which have ended: they need no further room."""

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these, given by their indices (b,)."""


def open_cache(
    lm: FrozenLM, rows: int, length: int, new_tokens: int, prefix: Prefix | None, context: SoftContext | None
) -> KVCache:
    """Return the fastest cache that a model supports.

    Args:
        lm: the model.
        rows: rows of the cache.
        length: positions of the longest prompt after the prefix.
        new_tokens: positions to be generated.
        prefix: text before every row, or None.
        context: what the adapters read in each step, or None.
    """
    cache = TransformersCache if lm.body is None else FusedCache
    return cache(lm, rows, length, new_tokens, prefix, context)


class FusedCache:
    """A cache for fused layers. Each row begins at slot 0, after a prefix that is stored once for all rows.

    Args:
        lm: a model with fused layers.
        rows: B.
        length: positions of the longest prompt after the prefix.
        new_tokens: positions to be generated.
        prefix: text before every row, or None.
        context: what the adapters read in each step, one set of soft tokens for each row, or None.

    Attributes:
        keys: (B, h_kv, slots, D) of each layer.
        values: (B, h_kv, slots, D) of each layer.
        lengths: (B,) slots in use.
    """

    pad: Literal["left", "right"] = "right"

    def __init__(
        self,
        lm: FrozenLM,
        rows: int,
        length: int,
        new_tokens: int,
        prefix: Prefix | None,
        context: SoftContext | None = None,
    ) -> None:
        self.lm, self.body, self.prefix, self.context = lm, cast(FusedBody, lm.body), prefix, context
        body = self.body
        self.past = 0 if prefix is None else len(prefix)
        slots = -(-(length + new_tokens) // 16) * 16
        shape = (rows, body.kv_heads, slots, body.head_dim)
        # Zeros: an unused slot has weight 0, but 0 times uninitialised memory may be NaN.
        self.keys = [torch.zeros(shape, dtype=lm.dtype, device=lm.device) for _ in body.layers]
        self.values = [torch.zeros(shape, dtype=lm.dtype, device=lm.device) for _ in body.layers]
        self.lengths = torch.zeros(rows, dtype=torch.long, device=lm.device)  # (B,)
        self.slots = torch.arange(slots, device=lm.device)  # (slots,)
        # A layer whose window is longer than all that it will see needs no mask.
        self.windows = [None if w is None or w >= self.past + slots else w for w in body.windows]
        self.kernels = body.whole_heads and lm.device.type == "cuda" and lm.dtype.itemsize == 2
        if self.kernels:
            self.kernels = kernels.usable(lm.device, lm.dtype, body.heads, body.kv_heads, body.head_dim)

    def fill(self, places: slice | Tensor, batch: Batch, shortest: int | None = None) -> Tensor:
        """Read prompts into some rows; see `KVCache.fill`."""
        L = batch.mask.shape[1]
        attend = _AttendAndStore(self, places, L)
        read = None if shortest is None or batch.context is not None else L - shortest + 1
        x = self.body(batch.embeds, batch.positions, attend, last=read, context=batch.context)  # (n, L or read, d)
        used = batch.mask.sum(-1)  # (n,)
        self.lengths[places] = used
        last = x[torch.arange(len(x), device=x.device), used - 1 - (L - x.shape[1])]  # (n, d)
        return self.body.finish(last)

    def step(self, embeds: Tensor) -> Tensor:
        """Read one token a row, (b, 1, d); return the last hidden states (b, d)."""
        return self._kernel_step(embeds[:, 0]) if self.kernels else self._torch_step(embeds)

    def _kernel_step(self, x: Tensor) -> Tensor:
        """Run the step in ten launches a layer, (b, d) -> (b, d)."""
        body, context, y = self.body, self.context, None
        angles = body.angles(x[:, None], self.lengths[:, None] + self.past)  # (b, 1, D) twice each
        turns = {kind: [part[:, 0].contiguous() for part in parts] for kind, parts in angles.items()}  # (b, D) twice
        seen = self.visible()
        for i, layer in enumerate(body.layers):
            x, h = kernels.add_norm(x, y, layer.norm.weight, layer.norm.eps)  # (b, d) each
            qkv = F.linear(h, layer.qkv, layer.qkv_bias).view(len(x), -1, body.head_dim)  # (b, h + 2 h_kv, D)
            qkv = body.norm_heads(layer, qkv).flatten(1)  # (b, (h + 2 h_kv) D)
            cos, sin = turns[layer.rotary]  # (b, D) each
            q = kernels.rotate_store(qkv, cos, sin, self.lengths, self.keys[i], self.values[i], body.heads)  # (b, h, D)
            if self.windows[i] is None:
                prefix = None if self.prefix is None else (self.prefix.keys[i][0], self.prefix.values[i][0])
                a = kernels.attention(q, self.keys[i], self.values[i], self.lengths, body.scale, prefix)  # (b, h, D)
            else:
                a = self.attention(i, q[:, None], seen[self.windows[i]])[:, 0]  # (b, h, D)
            a = layer.out(a.flatten(1))  # (b, d)
            a = a if layer.after_attention is None else layer.after_attention(a)
            x, h = kernels.add_norm(x, a, layer.mlp_norm.weight, layer.mlp_norm.eps)
            gate_up = F.linear(h, layer.gate_up, layer.gate_up_bias)  # (b, 2 m)
            y = layer.down(kernels.swiglu(gate_up) if body.silu else body.gated(gate_up))  # (b, d)
            y = y if layer.after_mlp is None else layer.after_mlp(y)
            if context is not None:
                x, y = context.apply(i + 1, (x + y)[:, None])[:, 0], None  # (b, d)
        self.lengths.add_(1)
        return kernels.add_norm(x, y, body.final_norm.weight, body.final_norm.eps)[1]

    def _torch_step(self, embeds: Tensor) -> Tensor:
        positions = self.lengths[:, None] + self.past  # (b, 1)
        x = self.body(embeds, positions, _AttendToCache(self), context=self.context)  # (b, 1, d)
        self.lengths.add_(1)
        return self.body.finish(x[:, 0])  # (b, d)

    def visible(self) -> dict[int | None, tuple[Tensor, Tensor | None]]:
        """Return, by window, which slots and which positions of the prefix the next token of each row sees.

        Returns:
            (b, 1, 1, slots); and (b, 1, 1, H) for the last H positions of the prefix, those in the window, or None if
            all of the prefix is seen.
        """
        at = self.lengths[:, None, None, None]  # (b, 1, 1, 1)
        masks: dict[int | None, tuple[Tensor, Tensor | None]] = {}
        for window in set(self.windows):
            seen, before = self.slots <= at, None  # (b, 1, 1, slots)
            if window is not None:
                seen = seen & (self.slots > at - window)  # (b, 1, 1, slots)
                kept = min(self.past, window - 1)
                before = torch.arange(kept, device=at.device) > kept + at - window  # (b, 1, 1, H)
            masks[window] = seen, before
        return masks

    def attention(self, layer: int, q: Tensor, visible: tuple[Tensor, Tensor | None]) -> Tensor:
        """Attend with one token a row to the cache.

        Args:
            layer: the layer's number, from 0.
            q: (b, 1, h, D).
            visible: the layer's part of `FusedCache.visible`.

        Returns:
            (b, 1, h, D).
        """
        B, _, h, D = q.shape
        keys, values = self.keys[layer], self.values[layer]
        kv, (seen, before) = keys.shape[1], visible
        grouped = q.view(B, kv, h // kv, D)  # (b, h_kv, g, D)
        scores = (grouped @ keys.transpose(-1, -2)).masked_fill(~seen, float("-inf"))  # (b, h_kv, g, slots)
        if self.prefix is None:
            return (softmax(scores * self.body.scale) @ values).view(B, 1, h, D)
        # All rows share the prefix's keys, so they are read once, in one product with the queries of all rows.
        H = self.past if before is None else before.shape[-1]
        prefix_k, prefix_v = (x[layer][0, :, self.past - H :] for x in (self.prefix.keys, self.prefix.values))
        all_rows = grouped.transpose(0, 1).reshape(kv, -1, D)  # (h_kv, b g, D)
        past = (all_rows @ prefix_k.transpose(-1, -2)).view(kv, B, h // kv, -1).transpose(0, 1)  # (b, h_kv, g, H)
        past = past if before is None else past.masked_fill(~before, float("-inf"))
        weights = softmax(torch.cat([past, scores], -1) * self.body.scale)  # (b, h_kv, g, H + slots)
        y = weights[..., H:] @ values  # (b, h_kv, g, D)
        shared = weights[..., :H].transpose(0, 1).reshape(kv, -1, H) @ prefix_v  # (h_kv, b g, D)
        return (y + shared.view(kv, B, h // kv, D).transpose(0, 1)).reshape(B, 1, h, D)

    def hold(self, rows: Tensor) -> None:
        """Empty the rows that a mask (b,) chooses, which have ended: the kernels read one slot of theirs then."""
        self.lengths.masked_fill_(rows, 0)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these, given by their indices (b,)."""
        self.context = None if self.context is None else self.context.rows(rows)
        self.lengths = self.lengths[rows]
        for layer in range(len(self.keys)):
            self.keys[layer] = self.keys[layer][rows]
            self.values[layer] = self.values[layer][rows]


class _AttendAndStore(AttendAfterPrefix):
    """Attention over prompts that stores the keys and values of their own tokens in the cache."""

    def __init__(self, cache: FusedCache, rows: slice | Tensor, length: int) -> None:
        super().__init__(cache.prefix, None, cache.body.scale, cache.body.windows)
        self.cache, self.rows, self.length = cache, rows, length

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.keys[layer][self.rows, :, : self.length] = k[:, -self.length :].transpose(1, 2)
        self.cache.values[layer][self.rows, :, : self.length] = v[:, -self.length :].transpose(1, 2)
        return super().__call__(layer, q, k, v)  # (n, L, h, D)


class _AttendToCache:
    """Attention of one new token a row, whose keys and values are added to the cache."""

    def __init__(self, cache: FusedCache) -> None:
        self.cache = cache
        self.at = cache.lengths[:, None, None, None]  # (b, 1, 1, 1)
        self.visible = cache.visible()

    def prefix_states(self, _layer: int) -> None:
        """Return None: `FusedCache.attention` reads the prefix in place."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        for cached, new in ((self.cache.keys[layer], k), (self.cache.values[layer], v)):
            one = new.transpose(1, 2)  # (b, h_kv, 1, D)
            cached.scatter_(2, self.at.expand_as(one), one)
        return self.cache.attention(layer, q, self.visible[self.cache.windows[layer]])  # (b, 1, h, D)


class TransformersCache:
    """transformers' static cache under the model's own layers, with grouped attention. All rows end at the same slot.

    The arguments are those of `FusedCache`, for any model of transformers.
    """

    pad: Literal["left", "right"] = "left"
    kernels = False

    def __init__(
        self,
        lm: FrozenLM,
        rows: int,
        length: int,
        new_tokens: int,
        prefix: Prefix | None,
        context: SoftContext | None = None,
    ) -> None:
        from transformers.cache_utils import Cache, StaticLayer

        self.lm, self.prefix, self.context = lm, prefix, context
        self.past = 0 if prefix is None else len(prefix)
        self.length = self.past + length
        slots = self.length + new_tokens
        self.cache = Cache(layers=[StaticLayer(max_cache_len=slots) for _ in range(lm.num_layers)])
        self.rows = rows
        self.seen = torch.zeros(rows, 1, 1, slots, dtype=torch.bool, device=lm.device)  # (B, 1, 1, slots)
        self.seen[..., : self.past] = True
        self.position = torch.zeros(rows, 1, dtype=torch.long, device=lm.device)  # (B, 1)
        self.at = torch.full((1,), self.length, device=lm.device)  # (1,)

    def fill(self, places: slice | Tensor, batch: Batch, shortest: int | None = None) -> Tensor:
        """Read prompts into some rows, all of whose positions are computed; see `KVCache.fill`."""
        del shortest
        from transformers import DynamicCache

        count, L = batch.mask.shape
        begin = self.length - L
        prompt = DynamicCache(config=self.lm.model.config)
        mask = batch.mask
        if self.prefix is not None:
            mask = torch.cat([mask.new_ones(count, self.past), mask], 1)  # (n, H + L)
            for i, (k, v) in enumerate(zip(self.prefix.keys, self.prefix.values, strict=True)):
                prompt.update(k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1), i)
        hidden = self.lm.run_transformers(
            batch.context,
            inputs_embeds=batch.embeds,
            attention_mask=mask,
            position_ids=batch.positions,
            past_key_values=prompt,
            use_cache=True,
        )  # (n, L, d)
        for own, read in zip(self.cache.layers, prompt.layers, strict=True):
            if not own.is_initialized:
                like = read.keys.new_zeros(()).expand(self.rows, read.keys.shape[1], 1, read.keys.shape[-1])
                own.lazy_initialization(like, read.values[:1, :, :1].expand(self.rows, -1, -1, -1))
                own.cumulative_length.fill_(self.length)
            for cached, new in ((own.keys, read.keys), (own.values, read.values)):
                cached[places, :, : self.past] = new[:, :, : self.past]
                cached[places, :, begin : self.length] = new[:, :, self.past :]
        self.seen[places, 0, 0, begin : self.length] = batch.mask.bool()
        self.position[places] = batch.positions[:, -1:]
        return hidden[:, -1]

    def step(self, embeds: Tensor) -> Tensor:
        """Read one token a row, (b, 1, d); return the last hidden states (b, d)."""
        self.seen.index_fill_(3, self.at, True)
        self.position.add_(1)
        with use_grouped_attention(self.lm.model):
            hidden = self.lm.run_transformers(
                self.context,
                inputs_embeds=embeds,
                attention_mask=self.seen,
                position_ids=self.position,
                past_key_values=self.cache,
                use_cache=True,
            )  # (b, 1, d)
        self.at.add_(1)
        return hidden[:, 0]

    def hold(self, rows: Tensor) -> None:
        """Do nothing: all rows end at the same slot, and none takes another one's place."""

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these, given by their indices (b,)."""
        self.context = None if self.context is None else self.context.rows(rows)
        self.seen, self.position, self.rows = self.seen[rows], self.position[rows], len(rows)
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
            layer.batch_size = len(rows)
