"""A batch of source states with its mask, as the bridge reads it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_bridge.gpu.transfer import send
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.layout import common_prefix
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM


@dataclass(frozen=True, kw_only=True)
class SourceBatch:
    """Hidden states of the source on the questions of B examples, which the bridge reads.

    Attributes:
        states: (B, S, d_s), hidden states of one layer, fp32 or wider.
        mask: (B, S), 1 on the question's tokens.
        items: the examples, for what depends on their text (token alignment).
    """

    states: Tensor
    mask: Tensor
    items: Sequence[Encoded]


def read_source(source: FrozenLM, items: Sequence[Encoded], layer: int) -> SourceBatch:
    """Run the frozen source on prompts and return one layer's states of the questions' tokens.

    The rest of the prompt, such as the few-shot header, is attended to, but its states are not returned.

    Args:
        source: the frozen source.
        items: B examples.
        layer: 0 for the embeddings, n for the output of layer n, negative from the end.

    Raises:
        UserError: if the source has no such layer.
    """
    rows = [Row(before=(), prompt=item.source_ids, header=item.source_header) for item in items]
    prefix = common_prefix(source, rows, soft=False)
    past = 0 if prefix is None else len(prefix)
    length = max(len(item.source_ids) for item in items) - past
    source.check_length(past + length, "the longest prompt")
    ids = torch.full((len(items), length), source.pad)  # (B, L)
    mask = torch.zeros(len(items), length, dtype=torch.long)  # (B, L)
    for i, item in enumerate(items):
        ids[i, : len(item.source_ids) - past] = torch.tensor(item.source_ids[past:])
        mask[i, : len(item.source_ids) - past] = 1
    ids, mask = send(ids, source.device), send(mask, source.device)
    hidden = source.capture(ids, mask, layer, prefix=prefix)  # (B, L, d_s)
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    S = max(end - begin for begin, end in (item.question_span for item in items))
    states = hidden.new_zeros(len(items), S, hidden.shape[-1])  # (B, S, d_s)
    inside = torch.zeros(len(items), S, dtype=torch.long)  # (B, S)
    for i, (begin, end) in enumerate(item.question_span for item in items):
        states[i, : end - begin] = hidden[i, begin - past : end - past]
        inside[i, : end - begin] = 1
    return SourceBatch(states=states, mask=send(inside, hidden.device), items=items)
