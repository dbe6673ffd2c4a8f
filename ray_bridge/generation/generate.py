"""Batched decoding, greedy or sampled: one function for prompts with soft tokens and for plain text.

Model and device alone decide between the two implementations, which give the same text.
"""

from collections.abc import Sequence

from ray_bridge.generation.eager import decode_each, decode_eager
from ray_bridge.generation.fixed_shape import BatchShapes, fixed_batches
from ray_bridge.generation.graphed import decode_graphed, uses_graphs
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.layout import inserted_tokens
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext


def decode_rows(
    lm: FrozenLM,
    rows: Sequence[Row],
    soft: SoftContext | None,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    statistics: DecodingStatistics | None = None,
    stops: Sequence[str] = (),
    shapes: BatchShapes | None = None,
) -> list[list[int]]:
    """Decode rows with their soft tokens: with CUDA graphs if `uses_graphs`, else eagerly.

    Args:
        lm: the model that answers.
        rows: without answers.
        soft: soft tokens of each row and the adapters that read them, or None.
        max_new_tokens: most tokens a row may get, its end included.
        sampling: None decodes greedily.
        statistics: is added to; give the same object to all calls of a caller.
        stops: texts that end a row, as an end-of-text id does.
        shapes: of batches in which a row's ids do not depend on the rows beside it; None decodes as fast as can be.

    Returns:
        The new token ids of each row, up to its end-of-text id or the token that completes a stop text.

    Raises:
        UserError: if a row is longer than the model's context, or memory does not hold a batch of a fixed shape.
    """
    inserted = inserted_tokens(rows, soft)
    extra = inserted + max_new_tokens
    longest = max((len(row.before) + len(row.prompt) + extra for row in rows), default=None)
    lm.check_length(longest or 0, f"a prompt with {max_new_tokens} new tokens")
    statistics = DecodingStatistics() if statistics is None else statistics
    # Graphs are made for rows whose keys and values all come from their text.
    writes = soft is not None and soft.writer is not None
    if shapes is None:
        if not writes and uses_graphs(lm, statistics, longest):
            return decode_graphed(lm, rows, soft, max_new_tokens, sampling, stops=stops, statistics=statistics)
        return decode_eager(lm, rows, soft, max_new_tokens, sampling, stops)
    outputs: list[list[int]] = [[] for _ in rows]
    for batch in fixed_batches(lm, rows, max_new_tokens, shapes, soft=soft is not None, inserted=inserted):
        own = [rows[i] for i in batch.members]
        own_soft = None if soft is None else soft.rows(list(batch.members))
        draws = None if sampling is None else sampling.rows(batch.members)
        if not writes and uses_graphs(lm, statistics, batch.longest):
            texts = decode_graphed(
                lm, own, own_soft, max_new_tokens, draws, stops=stops, statistics=statistics, shape=batch.shape
            )
        else:
            texts = decode_each(lm, own, own_soft, max_new_tokens, draws, stops)
        for i, ids in zip(batch.members, texts, strict=True):
            outputs[i] = ids
    return outputs
