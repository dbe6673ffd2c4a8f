"""The main term: the gold answer's negative log-likelihood under the target, given the soft tokens."""

from torch import Tensor
from torch.nn import functional as F

from ray_bridge.objectives.chunked_vocabulary import sum_in_chunks
from ray_bridge.objectives.step_context import StepContext, Term


def answer_nll(step: StepContext) -> Term:
    """Negative log-likelihood of answer tokens and EOS, summed over tokens."""
    answers = step.student.answers

    def nll(hidden: Tensor, tokens: Tensor) -> Tensor:
        return F.cross_entropy(step.target.logits(hidden), tokens, reduction="sum")

    hidden = step.student_answers  # (N, d_t)
    return Term(total=sum_in_chunks(nll, hidden, answers.tokens), count=len(hidden))
