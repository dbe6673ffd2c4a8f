"""What a job does when: the order of its examples and its learning rate, functions of the spec and the step alone."""

import math
from functools import cache

import numpy as np

from ray_bridge.config.spec import JobSpec
from ray_bridge.noise import stable_seed


@cache
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which an epoch takes its examples, (count,)."""
    return np.random.default_rng(stable_seed("order", seed, epoch)).permutation(count)


def learning_rate(spec: JobSpec, step: int) -> float:
    """Linear warm-up, then half a cosine to 0 at the last step (Loshchilov & Hutter 2017)."""
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    share = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
