"""Decoding with a fixed KV cache whose step is captured once in a CUDA graph and replayed for every token.

A step of eager decoding launches thousands of kernels from Python and repeats keys and values for every query head; a
captured step with grouped attention costs little more than reading weights and cache. On a CPU the same code runs
without a graph, which is how it is compared with eager decoding.
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch

from bridge_common.errors import UserError
from ray_bridge.generation.eager import decode_each, decode_eager
from ray_bridge.generation.fixed_shape import FixedShape
from ray_bridge.generation.graphed_batch import PREFILL_TOKENS, CannotCaptureError, GraphedBatch
from ray_bridge.generation.sampling import Sampling, fix_draws
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.layout import common_prefix, inserted_tokens, read_by_adapters
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.windows import attends_fully

MEMORY = 80 * 1024**3
"""Cap on GPU memory in bytes, so that decoding also fits 80 GiB cards."""


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

    With fused layers the others wait and take the places of rows that have ended; under adapters, and without fused
    layers, they follow in batches of their own. In a batch of a fixed shape prompts are read one by one, and no row
    leaves before all have ended.

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
        room = rows_that_fit(lm, max(lengths) + max_new_tokens)
        refills = lm.body is not None and read_by_adapters(rows, soft) is None
        parts = [order] if refills else split_evenly(order, room)
    else:
        room, past = shape.rows, 0 if prefix is None else len(prefix)
        check_fits(lm, shape, fits(lm, shape, past + shape.slots))
        parts = [order]
    for part in parts:
        batch = GraphedBatch(
            lm,
            [rows[i] for i in part],
            room,
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
        except CannotCaptureError as error:
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
