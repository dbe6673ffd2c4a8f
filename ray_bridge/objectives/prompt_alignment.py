"""Toggle `prompt_alignment`: how strongly soft tokens are pulled towards the question's own embeddings.

On and off differ in the weight alone, 0.001 and 0.05. The strong pull, used before the fix, left the bridge no freedom.
"""

from ray_bridge.objectives.step_context import StepContext, Term


def prompt_alignment(step: StepContext) -> Term:
    """Mean squared distance of Z to the question's embeddings, both at unit RMS, summed over rows."""
    z = step.soft / step.target.embedding_rms  # (B, K, d_t)
    distance = (z - step.question_slots).pow(2).mean((1, 2))  # (B,)
    return Term(total=distance.sum(), count=len(distance))
