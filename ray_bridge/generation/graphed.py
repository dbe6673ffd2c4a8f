"""Fast decoding on a GPU: a fixed cache, and one captured graph that is replayed for every token.

A step of plain decoding launches thousands of kernels from Python and repeats keys and values; captured, with
attention by groups, it costs little more than reading weights and cache. Nothing waits for the device between tokens:
whether rows have ended is looked at every `LOOK` tokens, and the cache shrinks to the open rows once many have.
The same code runs uncaptured on a CPU, which is how it is compared with the plain way.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from ray_bridge.generation.eager import decode_plain
from ray_bridge.generation.sampling import Sampling, choose, fix_draws
from ray_bridge.inputs.layout import Batch, assemble, common_prefix, inserted
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import Prefix, attends_fully

LOOK = 16
"""Tokens between two looks at which rows have ended."""
RETIRE = 0.7
"""The cache shrinks once no more than this share of its rows is open."""
PREFILL_TOKENS = 16_384
"""Positions of one forward pass over prompts."""
MEMORY = 80 * 1024**3
"""Bytes of a GPU that may be used, whatever it has: what runs here must run on the smaller cards too."""


class Cache(Protocol):
    """Keys and values of many rows, and the pass that adds a token to each."""

    def fill(self, first: int, batch: Batch) -> Tensor:
        """Read prompts into rows `first` and following; their last hidden states (n, d)."""

    def step(self, embeds: Tensor) -> Tensor:
        """Read one token a row, (b, 1, d); last hidden states (b, d). Changes only its own tensors, in place."""

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows alone."""


@dataclass(kw_only=True)
class Facts:
    """What the last call did, for benchmarks and tests."""

    batches: int = 0
    captured: int = 0
    retired: int = 0
    kind: str = ""
    notes: list[str] = field(default_factory=list)


FACTS = Facts()


def fast_here(lm: FrozenLM) -> bool:
    """Whether this way is taken for a model: on a GPU, where all its layers see all positions."""
    return lm.device.type == "cuda" and lm.static and attends_fully(lm.config)


@torch.no_grad()
def decode_static(
    lm: FrozenLM,
    rows: Sequence[Row],
    soft: Tensor | None,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    capture: bool | None = None,
) -> list[list[int]]:
    """Decode rows with their soft tokens, as many at once as memory holds; same text as `decode_plain`.

    Args:
        lm: the model that answers.
        rows: without answers.
        soft: (B, K, d) or None.
        max_new_tokens: most tokens a row may get, EOS included.
        sampling: None decodes greedily.
        capture: whether steps are captured in a graph; by default on a GPU.

    Returns:
        The new token ids of each row, EOS included where it was reached.
    """
    FACTS.__init__()  # type: ignore[misc]
    capture = lm.device.type == "cuda" if capture is None else capture
    prefix = common_prefix(lm, rows, soft=soft is not None)
    uniforms = None if sampling is None else sampling.uniforms(max_new_tokens)  # (B, T)
    extra = inserted(rows, soft) - (0 if prefix is None else len(prefix))
    lengths = [len(row.before) + len(row.prompt) + extra for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (lengths[i], i))
    outputs: list[list[int]] = [[] for _ in rows]
    for part in split_evenly(order, rows_that_fit(lm, max(lengths) + max_new_tokens)):
        work = _Work(lm, [rows[i] for i in part], max(lengths[i] for i in part), max_new_tokens, prefix, sampling)
        part_soft = None if soft is None else soft[part]
        part_uniforms = None if uniforms is None else uniforms[part]
        try:
            texts = work.run(part_soft, part_uniforms, capture=capture)
        except _CannotCaptureError as error:
            warnings.warn(f"{lm.name} is decoded the plain way: {error}", stacklevel=2)
            lm.static = False
            return decode_plain(lm, rows, soft, max_new_tokens, fix_draws(sampling, uniforms))
        del work  # its cache, before the next one is made
        FACTS.batches += 1
        for i, ids in zip(part, texts, strict=True):
            outputs[i] = ids
    return outputs


def rows_that_fit(lm: FrozenLM, slots: int) -> int:
    """How many rows of `slots` positions the device's memory holds beside what is there."""
    if lm.device.type != "cuda":
        return 1 << 30
    heads = getattr(lm.config, "num_key_value_heads", None) or lm.config.num_attention_heads
    width = getattr(lm.config, "head_dim", None) or lm.hidden_size // lm.config.num_attention_heads
    row = 2 * lm.num_layers * slots * heads * width * lm.embedding.weight.element_size()
    torch.cuda.empty_cache()  # what is still reserved then belongs to recordings
    free = min(torch.cuda.mem_get_info(lm.device)[0], MEMORY - torch.cuda.memory_reserved(lm.device))
    passing = 6 * PREFILL_TOKENS * lm.config.intermediate_size * lm.embedding.weight.element_size()
    return max(1, int(0.9 * (free - passing) / row))


def split_evenly(order: Sequence[int], limit: int) -> list[list[int]]:
    """Consecutive parts of nearly equal size, none over `limit`."""
    count = -(-len(order) // limit)
    edges = [len(order) * i // count for i in range(count + 1)]
    return [list(order[a:b]) for a, b in pairwise(edges)]


class _CannotCaptureError(Exception):
    """The architecture's step cannot be captured in a graph."""


class _Work:
    """One batch from its prompts to its texts."""

    def __init__(
        self,
        lm: FrozenLM,
        rows: Sequence[Row],
        length: int,
        max_new_tokens: int,
        prefix: Prefix | None,
        sampling: Sampling | None,
    ) -> None:
        self.lm, self.rows, self.limit, self.prefix, self.sampling = lm, rows, max_new_tokens, prefix, sampling
        self.cache = open_cache(lm, len(rows), length, max_new_tokens, prefix)
        FACTS.kind = type(self.cache).__name__
        device = lm.device
        self.open = list(range(len(rows)))  # which rows the tensors below hold
        self.texts: list[list[int]] = [[] for _ in rows]
        self.token = torch.zeros(len(rows), dtype=torch.long, device=device)  # (b,)
        self.ended = torch.zeros(len(rows), dtype=torch.bool, device=device)  # (b,)
        self.written = torch.full((len(rows), max_new_tokens), lm.pad, device=device)  # (b, T)
        self.at = torch.zeros(1, dtype=torch.long, device=device)  # (1,) how many tokens are written
        self.uniforms: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def run(self, soft: Tensor | None, uniforms: Tensor | None, *, capture: bool) -> list[list[int]]:
        self.uniforms = None if uniforms is None else uniforms.to(self.lm.device)  # (b, T)
        self._write(self._prefill(soft))
        with self.lm.reading(soft if self.rows[0].injection == "adapter" else None):
            self._steps(capture)
        self._collect(range(len(self.open)))
        self.graph = None
        return self.texts

    def _steps(self, capture: bool) -> None:
        for count in range(1, self.limit):
            if count % LOOK == 0 and not self._look(self.limit - count):
                break
            if self.graph is not None:
                self.graph.replay()
                continue
            self._step()  # warms up what the capture needs, and is a step like any other
            if capture and self.limit - count > LOOK:
                self._capture()

    def _prefill(self, soft: Tensor | None) -> Tensor:
        parts, first = [], 0
        K = inserted(self.rows, soft)
        past = 0 if self.prefix is None else len(self.prefix)
        lengths = [len(row.before) + len(row.prompt) + K - past for row in self.rows]
        while first < len(self.rows):
            end, longest = first + 1, lengths[first]
            while end < len(self.rows):
                longest = max(longest, lengths[end])
                if longest * (end + 1 - first) > PREFILL_TOKENS:
                    break
                end += 1
            part = None if soft is None else soft[first:end]
            batch = assemble(self.lm, self.rows[first:end], part, pad=self.cache.pad, prefix=self.prefix)
            with self.lm.reading(batch.context):
                parts.append(self.cache.fill(first, batch))  # (n, d)
            first = end
        return torch.cat(parts)  # (b, d)

    def _step(self) -> None:
        self._write(self.cache.step(self.lm.embed(self.token)[:, None]))

    def _write(self, hidden: Tensor) -> None:
        uniform = None if self.uniforms is None else self.uniforms.index_select(1, self.at)[:, 0]  # (b,)
        token = choose(self.lm.logits(hidden), uniform, self.sampling)  # (b,)
        token = token.masked_fill(self.ended, self.lm.pad)
        self.written.index_copy_(1, self.at, token[:, None])
        self.ended.logical_or_(token == self.lm.eos)
        self.token.copy_(token)
        self.at.add_(1)

    def _look(self, left: int) -> bool:
        """Whether any row is open; drops those that are not once they are many."""
        open_rows = (~self.ended).nonzero()[:, 0]  # (b',), waits for the device
        if len(open_rows) == 0:
            return False
        if len(open_rows) <= RETIRE * len(self.open) and left > 2 * LOOK:
            alive = set(open_rows.tolist())
            self._collect([i for i in range(len(self.open)) if i not in alive])
            FACTS.retired += len(self.open) - len(alive)
            self.open = [self.open[i] for i in sorted(alive)]
            self.graph = None
            self.cache.keep(open_rows)
            if self.lm.context is not None:
                self.lm.context = self.lm.context[open_rows]  # (b', K, d)
            self.token, self.ended = self.token[open_rows], self.ended[open_rows]
            self.written = self.written[open_rows]
            self.uniforms = None if self.uniforms is None else self.uniforms[open_rows]
        return True

    def _collect(self, places: Sequence[int] | range) -> None:
        done = int(self.at)
        written = self.written[:, :done].tolist()
        for i in places:
            ids = written[i]
            end = ids.index(self.lm.eos) + 1 if self.lm.eos in ids else len(ids)
            self.texts[self.open[i]] = ids[:end]

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads (a collective's watchdog, Ray's) may call CUDA meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step()
        except RuntimeError as error:
            raise _CannotCaptureError(str(error).strip().splitlines()[0]) from error
        FACTS.captured += 1
        self.graph = graph


def open_cache(lm: FrozenLM, rows: int, length: int, new_tokens: int, prefix: Prefix | None) -> Any:
    """The fastest cache that a model can use, for prompts of up to `length` positions behind the prefix."""
    from ray_bridge.generation.kv_caches import FusedCache, TransformersCache

    kind = TransformersCache if lm.body is None else FusedCache
    return kind(lm, rows, length, new_tokens, prefix)
