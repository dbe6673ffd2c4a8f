"""How many positions a model reads, and the one line that refuses a longer text, before a job starts and inside it."""

from typing import Any

from bridge_common.errors import UserError

REMEDY = (
    "lower num_fewshot, max_new_tokens or soft_tokens, leave longer texts out, or use a model with a longer context"
)


class TooLongError(UserError):
    """A text is longer than a model reads."""


def context_length(config: Any) -> int | None:
    """Return how many positions a model reads; None if its configuration sets no limit.

    A sliding window sets none: it says how far back a layer sees. With rotary frequencies that change with the length
    of the text (`longrope`, `dynamic`) it is the length up to which they stay as they are: beyond, the states of a text
    would depend on the longest text of its batch.

    Args:
        config: the text model's, as transformers loads it or as config.json has it.
    """
    longest: int | None = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if longest is None or any(isinstance(value, dict) for value in rope.values()):
        return longest  # frequencies by type of layer (Gemma 3): the limit holds for all
    kind = rope.get("rope_type") or rope.get("type") or "default"
    original = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    factor = float(rope.get("factor") or 1.0)
    if kind in ("longrope", "su"):
        return int(original or longest)
    if kind == "linear":
        return int(longest * factor)
    if kind == "yarn":
        return max(longest, int((original or longest) * factor))
    return longest


def too_long(name: str, limit: int | None, needed: int, text: str) -> str | None:
    """Return why a text is too long for a model; None if it is not.

    Args:
        name: of the model.
        limit: positions that it reads, None for no limit.
        needed: positions of the text.
        text: what the text consists of.
    """
    if limit is None or needed <= limit:
        return None
    return f"{name} reads {limit:,} positions at most, and {text} takes {needed:,}"


def check_length(name: str, limit: int | None, needed: int, text: str) -> None:
    """Refuse a text that is longer than a model's context; see `too_long`.

    Raises:
        TooLongError: in one line, with the remedy.
    """
    if (problem := too_long(name, limit, needed, text)) is not None:
        raise TooLongError(f"{problem}: {REMEDY}")
