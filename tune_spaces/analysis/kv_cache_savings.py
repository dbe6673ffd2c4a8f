"""How much of the target's key-value cache soft tokens save, which is why a prompt is compressed at all."""

from typing import Literal


def kv_cache_saved(
    soft_tokens: int,
    prompt_tokens: float,
    *,
    layout: Literal["soft_plus_text", "soft_only"],
    instruction_tokens: int = 0,
) -> float:
    """Return the share of the text prompt's cache that a layout saves.

    With `soft_only`, K soft tokens and a short instruction replace the prompt. With `soft_plus_text` they are added to
    it, so the share is negative: such a run shows the accuracy that K soft tokens reach, and saves nothing.

    Args:
        soft_tokens: K.
        prompt_tokens: mean length of the text prompt, in target tokens, BOS included.
        layout: as in the job's spec.
        instruction_tokens: length of the short instruction of `soft_only`.
    """
    if prompt_tokens <= 0:
        raise ValueError(f"a prompt has at least one token, not {prompt_tokens}")
    if layout == "soft_plus_text":
        return -soft_tokens / prompt_tokens
    return 1 - (1 + soft_tokens + instruction_tokens) / prompt_tokens
