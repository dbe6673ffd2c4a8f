"""What tests ask of a model that takes every fast path, on whichever weights."""

from ray_bridge.generation.verify import judge_decoding
from ray_bridge.models.accuracy import SAMPLE
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.gradient_accuracy import judge_gradients


def assert_every_fast_path(lm: FrozenLM, name: str) -> None:
    """Judge decode steps and gradients, and print all ratios; fail if a fast path was given up or does not apply."""
    decoding, gradients = judge_decoding(lm, [SAMPLE]), judge_gradients(lm, [SAMPLE])
    assert lm.slow_paths() == ""
    assert lm.body is not None
    assert lm.fused is not None
    assert decoding is not None
    assert gradients is not None
    print(f"{name}: states {lm.fused.ratio:.3f}, decoding {decoding.ratio:.3f}, gradients {gradients.ratio:.3f}")
