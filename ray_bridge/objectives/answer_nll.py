"""The main term: the gold answer's likelihood under the target, given the soft tokens."""

from torch import Tensor
from torch.nn import functional as F

from ray_bridge.objectives.terms import StepContext, Term, answer_positions
from ray_bridge.objectives.vocabulary import sum_in_parts


def answer_nll(step: StepContext) -> Term:
    """Negative log-likelihood of answer tokens and EOS, summed over tokens."""
    rows, positions, tokens = answer_positions(step.student)  # (N,) each

    def surprise(hidden: Tensor, tokens: Tensor) -> Tensor:
        return F.cross_entropy(step.target.logits(hidden), tokens, reduction="sum")

    return Term(total=sum_in_parts(surprise, step.student_hidden[rows, positions], tokens), count=len(tokens))
