"""The auxiliary term that makes the bridge a generative flow, from noise to the target's embeddings of a text."""

from ray_bridge.objectives.step_context import StepContext, Term, empty_term


def flow(step: StepContext) -> Term:
    """Return the flow-matching error towards `flow_teacher`'s text, summed over rows; empty for bridges without a flow.

    See `ray_bridge.bridges.rectified_flow.flow_error`.
    """
    if step.translator.flow is None or step.spec.flow_teacher == "none":
        return empty_term(step.soft)
    return Term(total=step.flow_error.sum(), count=len(step.items))
