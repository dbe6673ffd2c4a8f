"""Batched decoding: one path for prompts with soft tokens and for plain text, greedy or sampled.

Rows that have ended leave the batch, so a batch costs what its open rows cost. The sampled path draws each row's
tokens from that row's own generator, so that a sample does not depend on its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_bridge.layout import Batch, Row, assemble
from ray_bridge.lm import FrozenLM


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn: from each row's softmax at `temperature`, with that row's generator."""

    temperature: float
    generators: Sequence[torch.Generator]


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
    cache = DynamicCache(config=lm.model.config)
    mask = batch.mask  # (b, L)
    position = batch.positions[:, -1:]  # (b, 1)
    hidden = lm.model.base_model(
        inputs_embeds=batch.embeds,
        attention_mask=mask,
        position_ids=batch.positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state  # (b, L, d)
    for _ in range(max_new_tokens):
        logits = lm.logits(hidden[:, -1])  # (b, V)
        token = _choose(logits, rows, sampling)  # (b,)
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


def _choose(logits: Tensor, rows: Sequence[int], sampling: Sampling | None) -> Tensor:
    if sampling is None:
        return logits.argmax(-1)  # (b,)
    probabilities = (logits / sampling.temperature).softmax(-1).cpu()  # (b, V)
    drawn = [
        torch.multinomial(p, 1, generator=sampling.generators[row]) for p, row in zip(probabilities, rows, strict=True)
    ]
    return torch.cat(drawn).to(logits.device)  # (b,)


def decode_rows(
    lm: FrozenLM, rows: Sequence[Row], soft: Tensor | None, max_new_tokens: int, sampling: Sampling | None = None
) -> list[list[int]]:
    """Assemble rows with their soft tokens, (B, K, d) or None, and decode them."""
    return decode(lm, assemble(lm, rows, soft, pad="left"), max_new_tokens, sampling)


def text_of(lm: FrozenLM, tokens: Sequence[int]) -> str:
    """The text of generated tokens, without EOS and other special tokens."""
    return lm.tokenizer.decode(list(tokens), skip_special_tokens=True)
