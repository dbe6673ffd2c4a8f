"""Which fast paths a frozen model cannot take on a GPU, and why, in the words that a job's record shows."""

from typing import Any

from ray_bridge.models.prefix_cache import can_cache
from ray_bridge.models.windows import attends_fully, shortest_window


def describe_slow_paths(config: Any, not_fused: str) -> list[str]:
    """Return why a model is slower than it could be, one reason each; none if it takes all fast paths.

    Args:
        config: the text model's.
        not_fused: why its layers are not fused, in a few words; empty if they are.
    """
    reasons = []
    if not_fused:
        reasons.append(f"its layers are run eagerly ({not_fused})")
        window = shortest_window(config)
        if not attends_fully(config):
            limit = "" if window is None else f" where a text is longer than its window of {window} positions"
            reasons.append(f"it is decoded without CUDA graphs{limit}")
        if not can_cache(config):
            reasons.append("the few-shot header is read in every row")
    return reasons
