"""What each step does: its examples, learning rate and curriculum, as functions of the spec and the step alone."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.noise import stable_seed, uniform


def batch_indices(spec: JobSpec, step: int, available: int) -> list[int]:
    """Return which of the `available` training examples form the batch of a step, over all workers.

    Every epoch goes through the examples in an order of its own and leaves out those that do not fill a batch.

    Raises:
        UserError: if there are fewer examples than a batch holds.
    """
    size = spec.batch_size
    if available < size:
        raise UserError(f"batch_size {size} is more than the {available} training examples: lower it")
    epoch, batch = divmod(step, available // size)
    return [int(i) for i in _epoch_order(spec.seed, epoch, available)[batch * size : (batch + 1) * size]]


@cache
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng(stable_seed("order", seed, epoch)).permutation(count)


def learning_rate(spec: JobSpec, step: int) -> float:
    """Return the learning rate: linear warm-up, then half a cosine to 0 at the last step.

    The cosine is that of SGDR without restarts (Loshchilov & Hutter 2017).
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    progress = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def prompt_share(spec: JobSpec, step: int) -> float:
    """Return the probability that a step shows the prompt: `spec.prompt_share`, falling linearly to 0 at the end."""
    return spec.prompt_share * max(0.0, 1 - step / max(1, spec.steps))


def sees_prompt(spec: JobSpec, step: int) -> bool:
    """Draw whether a step shows the prompt; the same on every worker and after every restart."""
    return uniform(("prompt", spec.seed, step)) < prompt_share(spec, step)


def with_prompt(items: Sequence[Encoded]) -> list[Encoded]:
    """Return the examples with the whole prompt in place of the short instruction of `soft_only`."""
    rows = [item.prompted_row for item in items]
    return [item if row is None else replace(item, row=row) for item, row in zip(items, rows, strict=True)]
