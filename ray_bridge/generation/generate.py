"""Batched decoding, greedy or sampled: one entry for prompts with soft tokens and for plain text.

Which way is taken follows from the model and its device alone, and both give the same text.
"""

from collections.abc import Sequence

from torch import Tensor

from ray_bridge.generation.eager import decode_plain
from ray_bridge.generation.graphed import decode_static, fast_here
from ray_bridge.generation.sampling import Sampling
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM


def decode_rows(
    lm: FrozenLM, rows: Sequence[Row], soft: Tensor | None, max_new_tokens: int, sampling: Sampling | None = None
) -> list[list[int]]:
    """Decode rows with their soft tokens, (B, K, d) or None: the fast way where there is one, else the plain."""
    if fast_here(lm):
        return decode_static(lm, rows, soft, max_new_tokens, sampling)
    return decode_plain(lm, rows, soft, max_new_tokens, sampling)


def text_of(lm: FrozenLM, tokens: Sequence[int]) -> str:
    """The text of generated tokens, without EOS and other special tokens."""
    return lm.tokenizer.decode(list(tokens), skip_special_tokens=True)
