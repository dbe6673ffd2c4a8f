"""Eager decoding, which every architecture supports on any device, for prompts with soft tokens and for plain text.

Rows that have ended leave the batch, so a batch costs what its open rows cost. Sampling draws each row's tokens from
that row's own generator, so a sample does not depend on its batch.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ray_bridge.generation.sampling import Sampling, choose
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.layout import assemble, common_prefix
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import causal_masks
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.windows import attends_fully

CHECK_EVERY = 8
"""Tokens between two checks for stop texts."""


def decode_eager(
    lm: FrozenLM,
    rows: Sequence[Row],
    soft: SoftContext | None,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stops: Sequence[str] = (),
) -> list[list[int]]:
    """Assemble rows with their soft tokens and decode them with transformers' dynamic cache.

    Args:
        lm: the model that answers.
        rows: without answers.
        soft: soft tokens of each row and the adapters that read them, or None.
        max_new_tokens: most tokens a row may get, its end included.
        sampling: None decodes greedily.
        stops: texts that end a row, as an end-of-text id does.

    Returns:
        The new token ids of each row, up to its end-of-text id or the token that completes a stop text.
    """
    outputs: list[list[int]] = [[] for _ in rows]
    for step in eager_steps(lm, rows, soft, max_new_tokens, sampling, stops):
        for place, token in step:
            outputs[place].append(token)
    stopping = Stopping.of(lm, stops)
    return [stopping.cut(ids)[0] for ids in outputs]


def decode_each(
    lm: FrozenLM,
    rows: Sequence[Row],
    soft: SoftContext | None,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stops: Sequence[str] = (),
) -> list[list[int]]:
    """Decode as `decode_eager` does, one row at a time, so that no row's rounding depends on another."""
    texts: list[list[int]] = []
    for i, row in enumerate(rows):
        own_soft = None if soft is None else soft.rows([i])
        own_draws = None if sampling is None else sampling.rows([i])
        texts += decode_eager(lm, [row], own_soft, max_new_tokens, own_draws, stops)
    return texts


@torch.no_grad()
def eager_steps(
    lm: FrozenLM,
    rows: Sequence[Row],
    soft: SoftContext | None,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stops: Sequence[str] = (),
) -> Iterator[list[tuple[int, int]]]:
    """Decode as `decode_eager` does, and yield the tokens of each step as they come.

    Up to `CHECK_EVERY` tokens may follow one that completes a stop text.

    Yields:
        The index and the new token of each row that was still open.
    """
    from transformers import DynamicCache

    stopping, device = Stopping.of(lm, stops), lm.device
    end_ids = stopping.end_ids(device)  # (e,)
    prefix = common_prefix(lm, rows, soft=soft is not None)
    batch = assemble(lm, rows, soft, pad="left", prefix=prefix)
    places = list(range(len(rows)))  # of the rows that are still open
    outputs: list[list[int]] = [[] for _ in rows]
    uniforms = None if sampling is None else sampling.uniforms(max_new_tokens).to(batch.embeds.device)  # (B, T)
    prefix = batch.prefix
    # A prefix has all positions of every layer; so has a cache without a config.
    cache = DynamicCache(config=lm.model.config) if prefix is None else DynamicCache()
    mask, context = batch.mask, batch.context  # (b, L)
    position = batch.positions[:, -1:]  # (b, 1)
    if prefix is not None:
        mask = prefix.cover(mask)  # (b, H + L)
        for layer, (k, v) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
            cache.update(k.expand(len(rows), -1, -1, -1), v.expand(len(rows), -1, -1, -1), layer)

    def attention_mask(new: int) -> Tensor | dict[str, Tensor]:
        """Return the mask of the last `new` positions; transformers makes its own if no window may reach a prefix."""
        if prefix is None or attends_fully(lm.config, mask.shape[1]):
            return mask
        return causal_masks(mask, new, lm.dtype, lm.config)

    hidden = lm.run_transformers(
        context,
        inputs_embeds=batch.embeds,
        attention_mask=attention_mask(batch.mask.shape[1]),
        position_ids=batch.positions,
        past_key_values=cache,
        use_cache=True,
    )  # (b, L, d)
    for step in range(max_new_tokens):
        logits = lm.logits(hidden[:, -1])  # (b, V)
        token = choose(logits, None if uniforms is None else uniforms[places, step], sampling)  # (b,)
        token = token if lm.shards is None else lm.shards.agree(token)
        ended = torch.isin(token, end_ids)  # (b,)
        new = list(zip(places, token.tolist(), strict=True))
        for place, value in new:
            outputs[place].append(value)
        yield new
        if (step + 1) % CHECK_EVERY == 0:
            stopped = [stopping.is_complete(outputs[place], new=CHECK_EVERY) for place in places]
            ended |= torch.tensor(stopped, device=device)  # (b,)
        keep = (~ended).nonzero()[:, 0]  # (b',)
        if len(keep) == 0:
            break
        if len(keep) < len(places):
            places = [places[i] for i in keep.tolist()]
            cache.batch_select_indices(keep)
            mask, position, token = mask[keep], position[keep], token[keep]
            context = None if context is None else context.rows(keep)
        mask = torch.cat([mask, mask.new_ones(len(places), 1)], 1)  # (b, L + 1)
        position = position + 1  # (b, 1)
        hidden = lm.run_transformers(
            context,
            input_ids=token[:, None],
            attention_mask=attention_mask(1),
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )  # (b, 1, d)
