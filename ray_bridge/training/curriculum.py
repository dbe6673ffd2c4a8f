"""How a target under `soft_only` is weaned off the text: some early steps still show it the prompt.

Soft tokens alone carry nothing at first, so that the answer's loss has no way to say what is wrong with them. Beside
the prompt they are read for what the prompt lacks; the share of such steps then falls to nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.noise import uniform


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
