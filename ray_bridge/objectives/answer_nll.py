"""The main term: the gold answer's likelihood under the target, given the soft tokens."""

from torch.nn import functional as F

from ray_bridge.objectives.terms import StepContext, Term, answer_positions


def answer_nll(step: StepContext) -> Term:
    """Negative log-likelihood of answer tokens and EOS, summed over tokens."""
    rows, positions, tokens = answer_positions(step.student)  # (N,) each
    logits = step.target.logits(step.student_hidden[rows, positions])  # (N, V)
    return Term(total=F.cross_entropy(logits, tokens, reduction="sum"), count=len(tokens))
