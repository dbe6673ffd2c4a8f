"""The plain way to decode, which every architecture takes on any device: prompts with soft tokens and plain text alike.

Rows that have ended leave the batch, so a batch costs what its open rows cost. The sampled path
draws each row's tokens from that row's own generator, so that a sample does not depend on its batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ray_bridge.generation.sampling import Sampling, choose
from ray_bridge.inputs.layout import Batch, assemble, common_prefix
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM


@torch.no_grad()
def decode(lm: FrozenLM, batch: Batch, max_new_tokens: int, sampling: Sampling | None = None) -> list[list[int]]:
    """Continue each row of a left-padded batch until EOS or the limit.

    Args:
        lm: the model that answers.
        batch: left-padded inputs without answers.
        max_new_tokens: most tokens a row may get, EOS included.
        sampling: None decodes greedily.

    Returns:
        The new token ids of each row, EOS included where it was reached.
    """
    from transformers import DynamicCache

    rows = list(range(len(batch.embeds)))  # which rows are still open, in the batch's order
    outputs: list[list[int]] = [[] for _ in rows]
    uniforms = None if sampling is None else sampling.uniforms(max_new_tokens).to(batch.embeds.device)  # (B, T)
    cache = DynamicCache(config=lm.model.config)
    mask = batch.mask  # (b, L)
    position = batch.positions[:, -1:]  # (b, 1)
    if batch.prefix is not None:
        mask = torch.cat([mask.new_ones(len(rows), len(batch.prefix)), mask], 1)  # (b, H + L)
        for layer, (k, v) in enumerate(zip(batch.prefix.keys, batch.prefix.values, strict=True)):
            cache.update(k.expand(len(rows), -1, -1, -1), v.expand(len(rows), -1, -1, -1), layer)
    hidden = lm.model.base_model(
        inputs_embeds=batch.embeds,
        attention_mask=mask,
        position_ids=batch.positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state  # (b, L, d)
    for step in range(max_new_tokens):
        logits = lm.logits(hidden[:, -1])  # (b, V)
        token = choose(logits, None if uniforms is None else uniforms[rows, step], sampling)  # (b,)
        ended = token == lm.eos  # (b,)
        for row, value in zip(rows, token.tolist(), strict=True):
            outputs[row].append(value)
        keep = (~ended).nonzero()[:, 0]  # (b',)
        if len(keep) == 0:
            break
        if len(keep) < len(rows):
            rows = [rows[i] for i in keep.tolist()]
            cache.batch_select_indices(keep)
            mask, position, token = mask[keep], position[keep], token[keep]
            lm.context = None if lm.context is None else lm.context[keep]  # (b', K, d)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)  # (b, L + 1)
        position = position + 1  # (b, 1)
        hidden = lm.model.base_model(
            input_ids=token[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state  # (b, 1, d)
    return outputs


def decode_plain(
    lm: FrozenLM, rows: Sequence[Row], soft: Tensor | None, max_new_tokens: int, sampling: Sampling | None = None
) -> list[list[int]]:
    """Assemble rows with their soft tokens, (B, K, d) or None, and decode them the plain way."""
    prefix = common_prefix(lm, rows, soft=soft is not None)
    batch = assemble(lm, rows, soft, pad="left", prefix=prefix)
    with lm.reading(batch.context):
        return decode(lm, batch, max_new_tokens, sampling)
