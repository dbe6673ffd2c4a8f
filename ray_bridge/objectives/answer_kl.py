"""Toggle `kl_alignment`: keep the target, with soft tokens, close to the target that reads the text alone.

On: answer tokens against the same answer tokens. Off: what was done before the fix, kept so that it can be ablated:
the first 20 positions behind the soft tokens against the first 20 of the text, which hold different tokens.
"""

import torch
from torch import Tensor

from ray_bridge.objectives.terms import StepContext, Term, answer_positions
from ray_bridge.objectives.vocabulary import sum_in_parts

_MISALIGNED = 20


def kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of each row of logits in fp32, (N, V), (N, V) -> (N,)."""
    log_p = teacher.float().log_softmax(-1)  # (N, V)
    log_q = student.float().log_softmax(-1)  # (N, V)
    return (log_p.exp() * (log_p - log_q)).sum(-1)  # (N,)


def answer_kl(step: StepContext) -> Term:
    """KL summed over aligned (or, with the toggle off, misaligned) positions."""
    pairs = aligned_positions(step) if step.spec.kl_alignment else misaligned_positions(step)
    rows, student_at, teacher_at = pairs  # (N,) each

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = step.target.logits(teacher)  # (n, V)
        return kl_divergence(teacher, step.target.logits(student)).sum()

    states = (step.student_hidden[rows, student_at], step.teacher_hidden[rows, teacher_at])  # (N, d_t) each
    return Term(total=sum_in_parts(divergence, *states), count=len(rows))


def aligned_positions(step: StepContext) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, student and teacher positions whose next token is the same answer token.

    Per row s-1 .. s+n-2, s that row's first answer index in its own sequence.

    Raises:
        ValueError: when the two sequences do not supervise the same tokens.
    """
    rows, student_at, student_tokens = answer_positions(step.student)
    teacher_rows, teacher_at, teacher_tokens = answer_positions(step.teacher)
    if not (torch.equal(rows, teacher_rows) and torch.equal(student_tokens, teacher_tokens)):
        raise ValueError("student and teacher do not supervise the same answer tokens")
    return rows, student_at, teacher_at


def misaligned_positions(step: StepContext) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, the first 20 student positions behind the soft tokens, and the first 20 teacher positions."""
    rows: list[int] = []
    student_at: list[int] = []
    teacher_at: list[int] = []
    for i, item in enumerate(step.items):
        begin = int(step.student.soft_start[i]) + step.spec.inserted
        teacher_length = len(item.text_row.prompt) + len(item.text_row.answer)
        n = min(_MISALIGNED, int(step.student.mask[i].sum()) - begin, teacher_length)
        rows += [i] * n
        student_at += range(begin, begin + n)
        teacher_at += range(n)
    device = step.target.device
    return (
        torch.tensor(rows, device=device),
        torch.tensor(student_at, device=device),
        torch.tensor(teacher_at, device=device),
    )
