"""What a job does when: the order of its examples and its learning rate, functions of the spec and the step alone."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.noise import stable_seed, uniform


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


def prompt_share(spec: JobSpec, step: int) -> float:
    """Probability that a step sees the prompt: `spec.prompt_share` at step 0, falling linearly to 0 at the end."""
    return spec.prompt_share * max(0.0, 1 - step / max(1, spec.steps))


def sees_prompt(spec: JobSpec, step: int) -> bool:
    """Whether this step sees the prompt, the same on every worker and after every restart."""
    return uniform(("prompt", spec.seed, step)) < prompt_share(spec, step)


def with_prompt(items: Sequence[Encoded]) -> list[Encoded]:
    """The same examples with the prompt in place of the short instruction."""
    rows = [item.prompted_row for item in items]
    return [item if row is None else replace(item, row=row) for item, row in zip(items, rows, strict=True)]
