"""How far back each layer of a model sees: over all earlier positions, or over a sliding window of them."""

from typing import Any

PREFIX_FAMILIES = ("mistral", "phi3", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3_text", "cohere2")
"""Model types of transformers with windows that take one mask for each type of layer, as a header read once needs."""


def layer_windows(config: Any) -> list[int | None] | None:
    """Return how many positions each layer sees, its own included, None for all; None if a layer does neither.

    Args:
        config: the text model's.
    """
    types = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if getattr(config, "attention_chunk_size", None) is not None or getattr(
        config, "use_bidirectional_attention", False
    ):
        return None
    if not types:
        return [window] * config.num_hidden_layers
    if set(types) - {"full_attention", "sliding_attention"}:
        return None
    return [window if kind == "sliding_attention" else None for kind in types]


def attends_fully(config: Any, length: int | None = None) -> bool:
    """Return whether every layer attends to all earlier positions of a text.

    Args:
        config: the text model's.
        length: positions of the text; None for the longest that the config allows.
    """
    windows = layer_windows(config)
    longest = length or getattr(config, "max_position_embeddings", None)
    return windows is not None and all(w is None or (longest is not None and w >= longest) for w in windows)


def shortest_window(config: Any) -> int | None:
    """Return the shortest window of any layer, None if all layers see all positions."""
    return min((window for window in layer_windows(config) or () if window is not None), default=None)
