"""The auxiliary loss that makes the bridge a generative flow: from noise to the target's embeddings of a text."""

from ray_bridge.objectives.step_context import StepContext, Term, zero


def flow(step: StepContext) -> Term:
    """Flow-matching error towards the teacher text (`flow_teacher`), summed over rows; nothing for other bridges."""
    if step.translator.flow is None or step.spec.flow_teacher == "none":
        return zero(step.soft)
    if step.spec.flow_teacher == "question":
        data = step.question_slots  # (B, K, d_t)
    else:
        data = step.text_slots([item.text_row.answer for item in step.items])  # (B, K, d_t)
    error = step.passes.flow_error(step.reading, data, step.noise("flow"), step.times(), step.dropped)  # (B,)
    return Term(total=error.sum(), count=len(error))
