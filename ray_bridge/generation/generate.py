"""Batched decoding, greedy or sampled: one function for prompts with soft tokens and for plain text.

Model and device alone decide between the two implementations, which give the same text.
"""

from collections.abc import Sequence

from ray_bridge.generation.eager import decode_eager
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

    Returns:
        The new token ids of each row, up to its end-of-text id or the token that completes a stop text.
    """
    extra = inserted_tokens(rows, soft) + max_new_tokens
    longest = max((len(row.before) + len(row.prompt) + extra for row in rows), default=None)
    lm.check_length(longest or 0, f"a prompt with {max_new_tokens} new tokens")
    # Graphs are made for rows whose keys and values all come from their text.
    if (soft is None or soft.writer is None) and uses_graphs(lm, statistics, longest):
        return decode_graphed(lm, rows, soft, max_new_tokens, sampling, stops=stops, statistics=statistics)
    return decode_eager(lm, rows, soft, max_new_tokens, sampling, stops)
