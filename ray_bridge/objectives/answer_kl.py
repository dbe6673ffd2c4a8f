"""Toggle `kl_alignment`: keep the target with soft tokens (student) close to the target with the text (teacher).

On: distributions of answer tokens against those of the same answer tokens (distillation, Hinton et al. 2015). Off: the
behaviour before the fix, kept so that it can be ablated: the first 20 positions after the soft tokens against the first
20 of the text, which hold different tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ray_bridge.objectives.chunked_vocabulary import sum_in_chunks
from ray_bridge.objectives.step_context import StepContext, Term

_MISALIGNED = 20


def kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(teacher || student) of each row of logits, computed in fp32, (N, V), (N, V) -> (N,)."""
    log_p = teacher.float().log_softmax(-1)  # (N, V)
    log_q = student.float().log_softmax(-1)  # (N, V)
    return (log_p.exp() * (log_p - log_q)).sum(-1)  # (N,)


def answer_kl(step: StepContext) -> Term:
    """Return KL(teacher || student), summed over aligned positions, or over misaligned ones with the toggle off.

    Raises:
        ValueError: if student and teacher do not supervise the same answer tokens.
    """
    student, teacher = _states(step)  # (N, d_t) each

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = step.target.logits(teacher)  # (n, V)
        return kl_divergence(teacher, step.target.logits(student)).sum()

    return Term(total=sum_in_chunks(divergence, student, teacher), count=len(student))


def _states(step: StepContext) -> tuple[Tensor, Tensor]:
    """Return last hidden states of student and teacher at the compared positions, (N, d_t) each."""
    kept = step.teacher_answers
    if step.spec.kl_alignment and kept is not None:
        _check_same(step.student.answers.ids, kept.ids)
        return step.student_answers, kept.states
    if step.spec.kl_alignment:
        rows, _, teacher_at = aligned_positions(step)  # (N,) each
        return step.student_answers, step.teacher_hidden[rows, teacher_at]
    rows, student_at, teacher_at = misaligned_positions(step)  # (N,) each
    return step.student_hidden[rows, student_at], step.teacher_hidden[rows, teacher_at]


def aligned_positions(step: StepContext) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, student and teacher positions whose next token is the same answer token, (N,) each.

    With s a row's first answer index in its own sequence and n answer tokens, these are s-1 .. s+n-2.

    Raises:
        ValueError: if student and teacher do not supervise the same answer tokens.
    """
    student, teacher = step.student.answers, step.teacher.answers
    _check_same(student.ids, teacher.ids)
    return student.rows, student.at, teacher.at


def _check_same(student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
    if list(student) != list(teacher):
        raise ValueError("student and teacher do not supervise the same answer tokens")


def misaligned_positions(step: StepContext) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, the first 20 student positions after the soft tokens, and the first 20 teacher positions, (N,)."""
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
