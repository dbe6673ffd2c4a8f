"""The source's keys and values of a question, token by token of the target, as Cache-to-Cache reads them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.row_prefix import read_rows
from ray_bridge.models.token_alignment import TokenAlignment


def layer_cache_width(lm: FrozenLM) -> int:
    """Return the numbers in the keys, and in the values, of one token in one layer, h_kv * D."""
    config = lm.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or lm.hidden_size // config.num_attention_heads
    return int(heads * size)


def cache_width(lm: FrozenLM) -> int:
    """Return the numbers in the keys and values of one token over all layers, C."""
    return 2 * lm.num_layers * layer_cache_width(lm)


def covering_tokens(alignment: TokenAlignment) -> NDArray[np.int64]:
    """Return for each target token the source token that covers most of it, the first of equals, (T,)."""
    chosen = np.zeros(len(alignment.tokens), dtype=np.int64)  # (T,)
    best = np.full(len(alignment.tokens), -1.0)  # (T,)
    for row, column, share in zip(alignment.row, alignment.column, alignment.share, strict=True):
        if share > best[row]:
            chosen[row], best[row] = column, share
    return chosen


def read_cache(source: FrozenLM, items: Sequence[Encoded]) -> SourceBatch:
    """Run the source on prompts; return its keys and values of the questions, one entry for each target token.

    A target token gets those of the source token that covers most of it (Fu et al. 2025).

    Args:
        source: the frozen source.
        items: B examples, encoded with their token alignment.

    Returns:
        States (B, T, C), the layers one after another, keys before values; fp32 or wider.
    """
    keys, values, _ = read_rows(source, [item.source_ids for item in items])
    layers = torch.stack([torch.stack(part) for part in (keys, values)], 1)  # (layers, 2, B, h_kv, L, D)
    tokens = layers.permute(2, 4, 0, 1, 3, 5).flatten(2)  # (B, L, C)
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    alignments = [_alignment(item) for item in items]
    T = max(len(alignment.tokens) for alignment in alignments)
    states: Tensor = tokens.new_zeros(len(items), T, tokens.shape[-1])  # (B, T, C)
    mask = torch.zeros(len(items), T, dtype=torch.long, device=tokens.device)  # (B, T)
    for i, (item, alignment) in enumerate(zip(items, alignments, strict=True)):
        at = torch.from_numpy(covering_tokens(alignment)).to(tokens.device) + item.question_span[0]  # (t,)
        states[i, : len(at)] = tokens[i, at]
        mask[i, : len(at)] = 1
    return SourceBatch(states=states, mask=mask, items=items)


def _alignment(item: Encoded) -> TokenAlignment:
    if item.alignment is None:
        raise ValueError("examples were encoded without token alignment")
    return item.alignment
