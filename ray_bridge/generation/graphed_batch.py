"""One batch of `decode_graphed`, in the places of one KV cache.

Nothing waits for the device between tokens: whether rows have ended is checked every `CHECK_EVERY` tokens. Rows that
memory does not hold beside the others then take the places of those that have ended (continuous batching; Yu et al.
2022, Orca), and once none waits and many have ended, the cache shrinks to the open rows, unless these are few and
kernels skip the ended ones.
"""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.generation.fixed_shape import FixedShape
from ray_bridge.generation.kv_caches import open_cache
from ray_bridge.generation.sampling import Sampling, choose
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.layout import assemble, inserted_tokens, read_by_adapters
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import Prefix
from ray_bridge.models.soft_context import SoftContext

CHECK_EVERY = 16
"""Tokens between two checks of which rows have ended."""
RETIRE_SHARE = 0.5
"""The cache shrinks once no more than this share of its rows is open: it is copied, and its step captured again."""
FEW_ROWS = 64
"""So many rows stay where kernels skip ended ones: with fewer a step reads the same weights, and takes as long."""
REFILL_SHARE = 1 / 16
"""Rows that wait are read once this share of the places is free: a pass over a few prompts reads all weights too."""
PREFILL_TOKENS = 16_384
"""Positions of one forward pass over prompts."""


class CannotCaptureError(Exception):
    """The architecture's step cannot be captured in a graph."""


class GraphedBatch:
    """Decodes rows in the places of one cache, from their prompts to their texts."""

    def __init__(
        self,
        lm: FrozenLM,
        rows: Sequence[Row],
        room: int,
        soft: SoftContext | None,
        length: int,
        max_new_tokens: int,
        prefix: Prefix | None,
        sampling: Sampling | None,
        stopping: Stopping,
        statistics: DecodingStatistics,
        shape: FixedShape | None,
    ) -> None:
        self.lm, self.rows, self.soft, self.limit, self.shape = lm, rows, soft, max_new_tokens, shape
        self.prefix, self.sampling, self.stopping, self.statistics = prefix, sampling, stopping, statistics
        self.end_ids = stopping.end_ids(lm.device)  # (e,)
        begun = min(len(rows), room)
        count = begun if shape is None else shape.rows
        filling = [min(i, len(rows) - 1) for i in range(count)]  # empty places hold nothing: any soft tokens will do
        context = read_by_adapters(rows, soft if soft is None or count == len(rows) else soft.rows(filling))
        self.cache = open_cache(lm, count, length, max_new_tokens, prefix, context)
        statistics.cache = type(self.cache).__name__
        device = lm.device
        self.open = list(range(begun))  # the row in each place of the tensors below; empty places come after them
        self.waiting = deque(range(begun, len(rows)))
        self.empty = count - begun
        self.texts: list[list[int]] = [[] for _ in rows]
        self.token = torch.zeros(count, dtype=torch.long, device=device)  # (b,)
        self.ended = torch.arange(count, device=device) >= begun  # (b,)
        self.written = torch.full((count, max_new_tokens + 1), lm.pad, device=device)  # (b, T + 1), the last one unused
        self.at = torch.zeros(count, dtype=torch.long, device=device)  # (b,) tokens that each row has
        self.steps, self.until = 0, max_new_tokens - 1  # steps that were done, and after which no row needs another
        self.draws: Tensor | None = None
        self.uniforms: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def run(self, uniforms: Tensor | None, *, capture: bool) -> list[list[int]]:
        """Return each row's new tokens; `uniforms` (B, T) are the draws of a sampled decode."""
        begun = range(len(self.open))
        if uniforms is not None:
            self.draws = uniforms.to(self.lm.device)  # (B, T)
            self.uniforms = F.pad(self.draws[: len(begun)], (0, 0, 0, self.empty), value=0.5)  # (b, T)
        self._append(F.pad(self._prefill(begun, begun), (0, 0, 0, self.empty)))
        while self._goes_on():
            self.steps += 1
            self.statistics.steps += 1
            if self.graph is not None:
                self.graph.replay()
                continue
            self._step()  # warms up what the capture needs, and is a step like any other
            if capture and (self.waiting or self.until - self.steps >= CHECK_EVERY):
                self._capture()
        self._collect(range(len(self.open)))
        self.graph = None
        return self.texts

    def _prefill(self, rows: Sequence[int], places: Sequence[int]) -> Tensor:
        """Read the prompts of some rows into as many places; return their last hidden states (n, d).

        Args:
            rows: their indices.
            places: of the cache: the first ones as a range, or a list.
        """
        parts, first = [], 0
        K = inserted_tokens(self.rows, self.soft)
        past = 0 if self.prefix is None else len(self.prefix)
        lengths = [len(self.rows[i].before) + len(self.rows[i].prompt) + K - past for i in rows]
        while first < len(rows):
            end, longest = first + 1, lengths[first]
            while end < len(rows):
                longest = max(longest, lengths[end])
                if self.shape is not None or longest * (end + 1 - first) > PREFILL_TOKENS:
                    break
                end += 1
            own = list(rows[first:end])
            soft = None if self.soft is None else self.soft.rows(own)
            batch = assemble(self.lm, [self.rows[i] for i in own], soft, pad=self.cache.pad, prefix=self.prefix)
            at: slice | Tensor = slice(first, end)
            if not isinstance(places, range):
                at = torch.tensor(places[first:end], device=self.lm.device)  # (n,)
            shortest = min(lengths[first:end]) if self.shape is None else None
            parts.append(self.cache.fill(at, batch, shortest))  # (n, d)
            first = end
        return torch.cat(parts)  # (n, d)

    def _step(self) -> None:
        hidden = self.cache.step(self.lm.embed(self.token)[:, None])  # (b, d)
        self.cache.hold(self.ended)
        self._append(hidden)

    def _append(self, hidden: Tensor) -> None:
        """Choose each row's next token from its last hidden state, (b, d), and write it."""
        at = self.at[:, None]  # (b, 1)
        uniform = None if self.uniforms is None else self.uniforms.gather(1, at.clamp(max=self.limit - 1))[:, 0]  # (b,)
        token = self._choose(hidden, uniform).masked_fill(self.ended, self.lm.pad)  # (b,)
        self.written.scatter_(1, at, token[:, None])
        self.at.add_(~self.ended)
        self.ended.logical_or_(self._ends(token)).logical_or_(self.at >= self.limit)
        self.token.copy_(token)

    def _choose(self, hidden: Tensor, uniform: Tensor | None) -> Tensor:
        token = choose(self.lm.logits(hidden), uniform, self.sampling)  # (b,)
        return token if self.lm.shards is None else self.lm.shards.agree(token)

    def _ends(self, token: Tensor) -> Tensor:
        return (token[:, None] == self.end_ids).any(-1)  # (b,)

    def _goes_on(self) -> bool:
        """Return whether another step is needed; every `CHECK_EVERY` steps rows come and go before it."""
        if self.steps >= self.until and not self.waiting:
            return False
        checks = (self.steps + 1) % CHECK_EVERY == 0 or self.steps >= self.until
        return not checks or self._turn_over()

    def _turn_over(self) -> bool:
        """Let rows that wait take the places of ended ones, or drop these if they are many; return whether any is open.

        Waits for the device.
        """
        self._end_stopped()
        ended = self.ended.tolist()
        if self.waiting:
            free = [place for place, done in enumerate(ended) if done]
            if free and len(free) >= REFILL_SHARE * len(ended):
                self._refill(free[: len(self.waiting)])
            return True
        alive = [place for place, done in enumerate(ended) if not done]
        few = self.cache.kernels and len(self.open) <= FEW_ROWS
        many = self.shape is None and not few and len(alive) <= RETIRE_SHARE * len(self.open)
        if alive and many and self.until - self.steps > 2 * CHECK_EVERY:
            self._collect([place for place, done in enumerate(ended) if done])
            self.statistics.retired += len(self.open) - len(alive)
            self.open = [self.open[place] for place in alive]
            self.graph = None
            rows = torch.tensor(alive, device=self.lm.device)  # (b',)
            self.cache.keep(rows)
            self.token, self.ended, self.at = self.token[rows], self.ended[rows], self.at[rows]
            self.written = self.written[rows]
            self.uniforms = None if self.uniforms is None else self.uniforms[rows]
        return bool(alive)

    def _refill(self, places: Sequence[int]) -> None:
        """Read the next rows' prompts into places whose rows have ended; changes tensors in place, as a graph needs."""
        self._collect(places)
        rows = [self.waiting.popleft() for _ in places]
        for place, row in zip(places, rows, strict=True):
            self.open[place] = row
        hidden = self._prefill(rows, places)  # (n, d)
        at = torch.tensor(places, device=self.lm.device)  # (n,)
        uniform = None
        if self.uniforms is not None and self.draws is not None:
            self.uniforms[at] = self.draws[rows]
            uniform = self.draws[rows, 0]  # (n,)
        token = self._choose(hidden, uniform)  # (n,)
        self.written[at] = self.lm.pad
        self.written[at, 0] = self.token[at] = token
        self.at[at] = 1
        self.ended[at] = self._ends(token) if self.limit > 1 else True
        self.until = self.steps + self.limit - 1
        self.statistics.refilled += len(places)

    def _end_stopped(self) -> None:
        """Mark the open rows as ended that hold a stop text since the last check."""
        if not self.stopping.stops:
            return
        rows = zip(self._ids(), self.ended.tolist(), strict=True)
        stopped = [done or self.stopping.is_complete(ids, CHECK_EVERY) for ids, done in rows]
        self.ended.copy_(torch.tensor(stopped))

    def _ids(self) -> list[list[int]]:
        """Read the tokens of the row in each place back from the device."""
        counts = self.at.tolist()
        written = self.written[:, : max(counts)].tolist()
        return [ids[:count] for ids, count in zip(written, counts, strict=True)]

    def _collect(self, places: Sequence[int]) -> None:
        """Keep the texts of the rows in some places."""
        ids = self._ids()
        for place in places:
            self.texts[self.open[place]] = self.stopping.cut(ids[place])[0]

    def _capture(self) -> None:
        reason = ""
        try:
            graph = torch.cuda.CUDAGraph()
            # Other threads (a collective's watchdog, Ray's) may call CUDA meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
        if not self.lm.agreed(not reason):
            raise CannotCaptureError(reason or "it failed on another worker")
        self.statistics.captured += 1
        self.graph = graph
