"""Decoding with a fixed KV cache whose step is captured once in a CUDA graph and replayed for every token.

A step of eager decoding launches thousands of kernels from Python and repeats keys and values for every query head; a
captured step with grouped attention costs little more than reading weights and cache. Nothing waits for the device
between tokens: whether rows have ended is checked every `CHECK_EVERY` tokens, and the cache shrinks to the open rows
once many have ended. On a CPU the same code runs without a graph, which is how it is compared with eager decoding.
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from bridge_common.errors import UserError
from ray_bridge.generation.eager import decode_each, decode_eager
from ray_bridge.generation.fixed_shape import FixedShape
from ray_bridge.generation.kv_caches import FusedCache, TransformersCache
from ray_bridge.generation.sampling import Sampling, choose, fix_draws
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.layout import Batch, assemble, common_prefix, inserted_tokens, read_by_adapters
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import Prefix
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.windows import attends_fully

CHECK_EVERY = 16
"""Tokens between two checks of which rows have ended."""
RETIRE_SHARE = 0.7
"""The cache shrinks once no more than this share of its rows is open."""
PREFILL_TOKENS = 16_384
"""Positions of one forward pass over prompts."""
MEMORY = 80 * 1024**3
"""Cap on GPU memory in bytes, so that decoding also fits 80 GiB cards."""


class KVCache(Protocol):
    """Keys and values of many rows, and the forward pass that adds a token to each.

    Attributes:
        pad: the side on which prompts are padded.
    """

    pad: Literal["left", "right"]

    def fill(self, first: int, batch: Batch) -> Tensor:
        """Read n prompts into rows `first` and following; return their last hidden states (n, d)."""

    def step(self, embeds: Tensor) -> Tensor:
        """Read one token a row, (b, 1, d); return the last hidden states (b, d).

        Changes only the cache's own tensors, in place, so that a captured step can be replayed.
        """

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these, given by their indices (b,)."""


def uses_graphs(lm: FrozenLM, statistics: DecodingStatistics | None = None, longest: int | None = None) -> bool:
    """Return whether `decode_rows` decodes a model with graphs: on a GPU, if its cache supports what its layers see.

    Args:
        lm: the model that answers.
        statistics: of earlier calls, in which the model's step may have turned out not to be capturable.
        longest: positions of the longest text, new tokens included: one shorter than all windows needs none.
    """
    if statistics is not None and lm in statistics.uncapturable:
        return False
    return lm.device.type == "cuda" and (lm.body is not None or attends_fully(lm.config, longest))


@torch.no_grad()
def decode_graphed(
    lm: FrozenLM,
    rows: Sequence[Row],
    soft: SoftContext | None,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    stops: Sequence[str] = (),
    statistics: DecodingStatistics | None = None,
    capture: bool | None = None,
    shape: FixedShape | None = None,
) -> list[list[int]]:
    """Decode rows with their soft tokens, as many at once as memory holds; same text as `decode_eager`.

    In a batch of a fixed shape prompts are read one by one, and no row leaves before all have ended.

    Args:
        lm: the model that answers.
        rows: without answers.
        soft: soft tokens of each row and the adapters that read them, or None.
        max_new_tokens: most tokens a row may get, its end included.
        sampling: None decodes greedily.
        stops: texts that end a row, as an end-of-text id does.
        statistics: is added to. If the step cannot be captured, that is noted and the rows are decoded eagerly.
        capture: whether to capture the step in a CUDA graph; None does so on a GPU.
        shape: of the one batch that all rows are decoded in; None leaves shapes to the rows and the free memory.

    Returns:
        The new token ids of each row, up to its end-of-text id or the token that completes a stop text.

    Raises:
        UserError: if memory does not hold a batch of the fixed shape.
    """
    statistics = DecodingStatistics() if statistics is None else statistics
    capture = lm.device.type == "cuda" if capture is None else capture
    prefix = common_prefix(lm, rows, soft=soft is not None)
    uniforms = None if sampling is None else sampling.uniforms(max_new_tokens)  # (B, T)
    extra = inserted_tokens(rows, soft) - (0 if prefix is None else len(prefix))
    lengths = [len(row.before) + len(row.prompt) + extra for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (lengths[i], i))
    outputs: list[list[int]] = [[] for _ in rows]
    if shape is None:
        parts = split_evenly(order, rows_that_fit(lm, max(lengths) + max_new_tokens))
    else:
        past = 0 if prefix is None else len(prefix)
        check_fits(lm, shape, fits(lm, shape, past + shape.slots))
        parts = [order]
    for part in parts:
        batch = _GraphedBatch(
            lm,
            [rows[i] for i in part],
            None if soft is None else soft.rows(part),
            max(lengths[i] for i in part) if shape is None else shape.slots - max_new_tokens,
            max_new_tokens,
            prefix,
            sampling,
            Stopping.of(lm, stops),
            statistics,
            shape,
        )
        try:
            texts = batch.run(None if uniforms is None else uniforms[part], capture=capture)
        except _CannotCaptureError as error:
            warnings.warn(f"{lm.name} is decoded eagerly: its step cannot be captured ({error})", stacklevel=2)
            statistics.uncapturable[lm] = str(error)
            decode = decode_eager if shape is None else decode_each
            return decode(lm, rows, soft, max_new_tokens, fix_draws(sampling, uniforms), stops)
        del batch  # frees its cache before the next one is made
        statistics.batches += 1
        for i, ids in zip(part, texts, strict=True):
            outputs[i] = ids
    return outputs


def rows_that_fit(lm: FrozenLM, slots: int) -> int:
    """Return how many rows of `slots` positions fit into the device's free memory."""
    if lm.device.type != "cuda":
        return 1 << 30
    parts = 1 if lm.shards is None else lm.shards.size
    heads = (getattr(lm.config, "num_key_value_heads", None) or lm.config.num_attention_heads) // parts
    width = getattr(lm.config, "head_dim", None) or lm.hidden_size // lm.config.num_attention_heads
    row = 2 * lm.num_layers * slots * heads * width * lm.embedding.weight.element_size()
    torch.cuda.empty_cache()  # what is still reserved then belongs to CUDA graphs
    free = min(torch.cuda.mem_get_info(lm.device)[0], MEMORY - torch.cuda.memory_reserved(lm.device))
    passing = 6 * PREFILL_TOKENS * lm.config.intermediate_size // parts * lm.embedding.weight.element_size()
    count = max(1, int(0.9 * (free - passing) / row))
    return count if lm.shards is None else int(lm.shards.least(count))


def fits(lm: FrozenLM, shape: FixedShape, longest: int) -> bool:
    """Return whether the device's free memory holds a batch of a fixed shape whose rows have so many positions."""
    slots = shape.slots if lm.body is not None else longest  # fused layers store a header once for all rows
    return rows_that_fit(lm, slots) >= shape.rows


def check_fits(lm: FrozenLM, shape: FixedShape, does: bool) -> None:
    """Refuse a fixed shape that memory does not hold.

    Raises:
        UserError: in one line, with the remedy.
    """
    if not does:
        raise UserError(
            f"batch_invariant: the GPU's memory does not hold {shape.rows} rows of {shape.slots} positions of "
            f"{lm.name}: lower max_new_tokens, num_fewshot or soft_tokens, spread the target over GPUs "
            "(target_shards), or use batch_invariant=false"
        )


def split_evenly(order: Sequence[int], limit: int) -> list[list[int]]:
    """Return consecutive parts of nearly equal size, none over `limit`."""
    count = -(-len(order) // limit)
    edges = [len(order) * i // count for i in range(count + 1)]
    return [list(order[a:b]) for a, b in pairwise(edges)]


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


class _CannotCaptureError(Exception):
    """The architecture's step cannot be captured in a graph."""


class _GraphedBatch:
    """Decodes one batch, from its prompts to its texts."""

    def __init__(
        self,
        lm: FrozenLM,
        rows: Sequence[Row],
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
        count = len(rows) if shape is None else shape.rows
        filling = [min(i, len(rows) - 1) for i in range(count)]  # empty rows hold nothing: any soft tokens will do
        context = read_by_adapters(rows, soft if soft is None or count == len(rows) else soft.rows(filling))
        self.cache = open_cache(lm, count, length, max_new_tokens, prefix, context)
        statistics.cache = type(self.cache).__name__
        device = lm.device
        self.open = list(range(len(rows)))  # the rows that the tensors below hold first; empty ones come after them
        self.empty = count - len(rows)
        self.texts: list[list[int]] = [[] for _ in rows]
        self.token = torch.zeros(count, dtype=torch.long, device=device)  # (b,)
        self.ended = torch.arange(count, device=device) >= len(rows)  # (b,)
        self.written = torch.full((count, max_new_tokens), lm.pad, device=device)  # (b, T)
        self.at = torch.zeros(1, dtype=torch.long, device=device)  # (1,) how many tokens are written
        self.uniforms: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def run(self, uniforms: Tensor | None, *, capture: bool) -> list[list[int]]:
        """Return each row's new tokens; `uniforms` (b, T) are the draws of a sampled decode."""
        if uniforms is not None:
            self.uniforms = F.pad(uniforms, (0, 0, 0, self.empty), value=0.5).to(self.lm.device)  # (b, T)
        self._append(self._prefill())
        for count in range(1, self.limit):
            if count % CHECK_EVERY == 0 and not self._drop_ended(self.limit - count):
                break
            if self.graph is not None:
                self.graph.replay()
                continue
            self._step()  # warms up what the capture needs, and is a step like any other
            if capture and self.limit - count > CHECK_EVERY:
                self._capture()
        self._collect(range(len(self.open)))
        self.graph = None
        return self.texts

    def _prefill(self) -> Tensor:
        parts, first = [], 0
        K = inserted_tokens(self.rows, self.soft)
        past = 0 if self.prefix is None else len(self.prefix)
        lengths = [len(row.before) + len(row.prompt) + K - past for row in self.rows]
        while first < len(self.rows):
            end, longest = first + 1, lengths[first]
            while end < len(self.rows):
                longest = max(longest, lengths[end])
                if self.shape is not None or longest * (end + 1 - first) > PREFILL_TOKENS:
                    break
                end += 1
            soft = None if self.soft is None else self.soft.rows(slice(first, end))
            batch = assemble(self.lm, self.rows[first:end], soft, pad=self.cache.pad, prefix=self.prefix)
            parts.append(self.cache.fill(first, batch))  # (n, d)
            first = end
        return F.pad(torch.cat(parts), (0, 0, 0, self.empty))  # (b, d)

    def _step(self) -> None:
        self._append(self.cache.step(self.lm.embed(self.token)[:, None]))

    def _append(self, hidden: Tensor) -> None:
        """Choose each row's next token from its last hidden state, (b, d), and write it."""
        uniform = None if self.uniforms is None else self.uniforms.index_select(1, self.at)[:, 0]  # (b,)
        token = choose(self.lm.logits(hidden), uniform, self.sampling)  # (b,)
        token = token if self.lm.shards is None else self.lm.shards.agree(token)
        token = token.masked_fill(self.ended, self.lm.pad)
        self.written.index_copy_(1, self.at, token[:, None])
        self.ended.logical_or_((token[:, None] == self.end_ids).any(-1))
        self.token.copy_(token)
        self.at.add_(1)

    def _drop_ended(self, left: int) -> bool:
        """Drop ended rows if they are many; return whether any row is open. Waits for the device."""
        self._end_stopped()
        open_rows = (~self.ended).nonzero()[:, 0]  # (b',)
        if len(open_rows) == 0:
            return False
        many = self.shape is None and len(open_rows) <= RETIRE_SHARE * len(self.open)
        if many and left > 2 * CHECK_EVERY:
            alive = set(open_rows.tolist())
            self._collect([i for i in range(len(self.open)) if i not in alive])
            self.statistics.retired += len(self.open) - len(alive)
            self.open = [self.open[i] for i in sorted(alive)]
            self.graph = None
            self.cache.keep(open_rows)
            self.token, self.ended = self.token[open_rows], self.ended[open_rows]
            self.written = self.written[open_rows]
            self.uniforms = None if self.uniforms is None else self.uniforms[open_rows]
        return True

    def _end_stopped(self) -> None:
        """Mark the open rows as ended that hold a stop text since the last check."""
        if not self.stopping.stops:
            return
        written, ended = self.written[:, : int(self.at)].tolist(), self.ended.tolist()
        rows = zip(written, ended, strict=True)
        stopped = [done or self.stopping.is_complete(ids, CHECK_EVERY) for ids, done in rows]
        self.ended.copy_(torch.tensor(stopped))

    def _collect(self, places: Sequence[int] | range) -> None:
        """Read the tokens of the rows at some places back from the device."""
        done = int(self.at)
        written = self.written[:, :done].tolist()
        for i in places:
            self.texts[self.open[i]] = self.stopping.cut(written[i])[0]

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
            raise _CannotCaptureError(reason or "it failed on another worker")
        self.statistics.captured += 1
        self.graph = graph
