"""Which fast paths a frozen model cannot take on a GPU, and why, in the words that a job's record shows."""

from typing import Any

from ray_bridge.gpu.kernels.prefix_attention import WIDEST_HEAD
from ray_bridge.gpu.kernels.verify import takes_heads_of
from ray_bridge.models.fused_decoder import FusedBody
from ray_bridge.models.prefix_cache import can_cache
from ray_bridge.models.windows import attends_fully, shortest_window


def describe_slow_paths(config: Any, not_fused: str, body: FusedBody | None, *, half: bool) -> list[str]:
    """Return why a model is slower than it could be, one reason each; none if it takes all fast paths.

    Args:
        config: the text model's.
        not_fused: why its layers are not fused, in a few words; empty if nobody tried.
        body: its fused layers, or None.
        half: whether it computes in half precision, the only one that kernels take.
    """
    if body is not None:
        return _without_kernels(body) if half else []
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


def _without_kernels(body: FusedBody) -> list[str]:
    """Return what fused layers leave to PyTorch in half precision for the shape of their heads."""
    if not takes_heads_of(body.head_dim):
        return [f"its fused layers run without Triton kernels, which take no heads of {body.head_dim} features"]
    reasons = []
    if body.head_dim > WIDEST_HEAD:
        reasons.append(
            f"training after a few-shot header attends without a kernel, for heads of {body.head_dim} features"
        )
    if not body.whole_heads:
        reasons.append("decode steps run without Triton kernels, since a part of each head is not rotated")
    return reasons
