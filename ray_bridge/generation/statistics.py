"""What decoding did, in an object that callers hand to each call."""

from dataclasses import dataclass, field

from ray_bridge.models.frozen_lm import FrozenLM


@dataclass(kw_only=True)
class DecodingStatistics:
    """Counts that add up over the calls that are given the same object.

    Attributes:
        batches: batches decoded with a fixed KV cache.
        steps: decode steps of these batches.
        captured: CUDA graphs that were captured.
        retired: rows that had ended and left a cache before its other rows did.
        refilled: rows that took the place of one that had ended.
        cache: class of the last fixed KV cache.
        uncapturable: models whose step could not be captured in a CUDA graph, with the reason. Calls that are given
            this object decode them eagerly.
    """

    batches: int = 0
    steps: int = 0
    captured: int = 0
    retired: int = 0
    refilled: int = 0
    cache: str = ""
    uncapturable: dict[FrozenLM, str] = field(default_factory=dict)
