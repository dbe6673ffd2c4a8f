"""KL to the teacher: the same answer tokens on both sides, no pad ever, and the misaligned slice where it is off."""

from dataclasses import replace

import pytest
import torch

from ray_bridge.caching.teacher_states import AnswerStates
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.layout import assemble
from ray_bridge.inputs.rows import Row
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.answer_kl import aligned_positions, answer_kl, kl_divergence, misaligned_positions
from ray_bridge.objectives.step_context import StepContext
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, make_frame


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders)


@pytest.fixture(scope="module")
def off(folders: PairFolders) -> Frame:
    return make_frame(folders, kl_alignment=False)


def literal(frame: Frame, count: int) -> StepContext:
    """A step whose soft tokens are the embeddings of the K tokens that the teacher has in their place."""
    K = frame.spec.soft_tokens
    items = []
    for item in frame.items(count):
        text = item.text_row.prompt
        items.append(replace(item, row=Row(before=text[:1], prompt=text[1 + K :], answer=item.text_row.answer)))
    step = frame.step(items)
    step.soft = torch.stack(  # type: ignore[misc]
        [frame.pair.target.embed(torch.tensor(item.text_row.prompt[1 : 1 + K])) for item in items]
    )
    return step


def lengths(items: list[Encoded]) -> set[int]:
    return {len(item.text_row.prompt + item.text_row.answer) for item in items}


def test_soft_tokens_that_are_the_teachers_text_cost_nothing(frame: Frame) -> None:
    assert len(lengths(frame.items(6))) > 3
    step = literal(frame, 6)
    same = answer_kl(step)
    assert abs(float(same.total.detach()) / same.count) < 1e-5
    assert same.count == sum(len(item.row.answer) for item in step.items)
    other = answer_kl(frame.step(frame.items(6)))
    assert float(other.total.detach()) / other.count > 1e-2


@pytest.mark.parametrize("student_side", ["left", "right"])
@pytest.mark.parametrize("teacher_side", ["left", "right"])
def test_padding_side_does_not_matter(frame: Frame, student_side: str, teacher_side: str) -> None:
    items = frame.items(6)
    step, moved = frame.step(items), frame.step(items)
    target = frame.pair.target
    soft = SoftContext(tokens=moved.soft)
    moved.student = assemble(target, [i.row for i in items], soft, pad=student_side)  # type: ignore[misc, arg-type]
    moved.teacher = assemble(target, [i.text_row for i in items], None, pad=teacher_side)  # type: ignore[misc, arg-type]
    expected, term = answer_kl(step), answer_kl(moved)
    assert term.count == expected.count
    torch.testing.assert_close(term.total, expected.total, rtol=1e-5, atol=1e-6)
    rows, student_at, teacher_at = aligned_positions(moved)
    for batch, at in ((moved.student, student_at), (moved.teacher, teacher_at)):
        assert bool((batch.mask[rows, at] == 1).all())
        assert bool((batch.mask[rows, at + 1] == 1).all())


def test_rows_of_a_batch_are_independent(frame: Frame) -> None:
    items = frame.items(6)
    whole = answer_kl(frame.step(items))
    alone = [answer_kl(frame.step([item])) for item in items]
    torch.testing.assert_close(whole.total, torch.stack([t.total for t in alone]).sum(), rtol=1e-5, atol=1e-6)
    assert whole.count == sum(t.count for t in alone)


@pytest.mark.parametrize("aligned", [True, False])
def test_pads_are_never_read(frame: Frame, off: Frame, aligned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    used = frame if aligned else off
    totals = []
    for pad in (used.pair.target.pad, 17, 101):
        monkeypatch.setattr(used.pair.target, "pad", pad)
        totals.append(float(answer_kl(used.step(used.items(6))).total.detach()))
    assert totals[1] == totals[0] == totals[2]
    step = used.step(used.items(6))
    rows, student_at, teacher_at = (aligned_positions if aligned else misaligned_positions)(step)
    assert bool((step.student.mask[rows, student_at] == 1).all())
    assert bool((step.teacher.mask[rows, teacher_at] == 1).all())


def test_both_sides_predict_the_same_answer_token(frame: Frame) -> None:
    items = frame.items(6)
    step = frame.step(items)
    rows, student_at, teacher_at = (t.tolist() for t in aligned_positions(step))
    read: dict[int, list[int]] = {i: [] for i in range(len(items))}
    for row, at, place in zip(rows, student_at, teacher_at, strict=True):
        item = items[row]
        student = [*item.row.before, *[-1] * frame.spec.soft_tokens, *item.row.prompt, *item.row.answer]
        teacher = [*item.text_row.before, *item.text_row.prompt, *item.text_row.answer]
        assert student[at + 1] == teacher[place + 1]
        read[row].append(student[at + 1])
    tokenizer = frame.pair.target.tokenizer
    for item, tokens in zip(items, read.values(), strict=True):
        assert tokens[-1] == frame.pair.target.eos
        assert tokenizer.decode(tokens[:-1]) == frame.pair.task.continuation(item.example)


def test_different_answers_are_refused(frame: Frame) -> None:
    first, second = frame.items(2)
    with pytest.raises(ValueError, match="same answer tokens"):
        answer_kl(frame.step([replace(first, text_row=second.text_row)]))


def with_kept_teacher(frame: Frame, items: list[Encoded]) -> tuple[StepContext, StepContext]:
    """Return a step that runs the teacher, and the same step with the states that the first one's teacher has."""
    step = frame.step(items)
    rows, _, teacher_at = aligned_positions(step)
    kept = AnswerStates(states=step.teacher_hidden[rows, teacher_at], ids=step.teacher.answers.ids)
    again = StepContext(
        frame.spec, step.target, step.translator, step.source, step.step_key, step.worker, teacher_answers=kept
    )
    return step, again


def test_states_that_were_kept_stand_for_the_teacher(frame: Frame) -> None:
    step, again = with_kept_teacher(frame, frame.items(6))
    expected, term = answer_kl(step), answer_kl(again)
    assert term.count == expected.count
    torch.testing.assert_close(term.total, expected.total)
    assert "teacher" not in vars(again), "the teacher does not run"


def test_kept_states_of_other_answers_are_refused(frame: Frame) -> None:
    _, again = with_kept_teacher(frame, frame.items(2))
    assert again.teacher_answers is not None
    again.teacher_answers = replace(again.teacher_answers, ids=again.teacher_answers.ids[::-1])
    with pytest.raises(ValueError, match="same answer tokens"):
        answer_kl(again)


def test_misaligned_positions_do_not_use_kept_states(off: Frame) -> None:
    kept = AnswerStates(states=torch.zeros(1, off.pair.target.hidden_size), ids=[])
    step = off.step(off.items(3))
    again = StepContext(
        off.spec, step.target, step.translator, step.source, step.step_key, step.worker, teacher_answers=kept
    )
    torch.testing.assert_close(answer_kl(again).total, answer_kl(step).total)


def test_off_is_the_misaligned_slice(off: Frame) -> None:
    items, target, K = off.items(6), off.pair.target, off.spec.soft_tokens
    step = off.step(items)
    total, count = 0.0, 0
    with torch.no_grad():
        for item, soft in zip(items, step.soft, strict=True):
            text = target.embed(torch.tensor([*item.row.prompt, *item.row.answer]))  # (T, d)
            begin = target.embed(torch.tensor([target.bos]))  # (1, d)
            student = target.model(inputs_embeds=torch.cat([begin, soft, text])[None]).logits[0]  # (1 + K + T, V)
            teacher = target.model(inputs_embeds=torch.cat([begin, text])[None]).logits[0]  # (1 + T, V)
            log_p, log_q = teacher[:20].log_softmax(-1), student[1 + K : 21 + K].log_softmax(-1)
            total += float((log_p.exp() * (log_p - log_q)).sum())
            count += 20
    term = answer_kl(step)
    assert term.count == count
    assert float(term.total.detach()) == pytest.approx(total, rel=1e-4)
    assert float(answer_kl(off.step(items)).total.detach()) > 0


def test_a_short_row_gives_fewer_positions(off: Frame) -> None:
    item = off.items(1)[0]
    short = replace(
        item,
        row=replace(item.row, prompt=item.row.prompt[:5], answer=item.row.answer[-3:]),
        text_row=replace(item.text_row, prompt=item.text_row.prompt[:6], answer=item.text_row.answer[-3:]),
    )
    step = off.step([short, item])
    rows, student_at, _ = misaligned_positions(step)
    assert (rows == 0).sum() == 8
    assert (rows == 1).sum() == 20
    assert int(student_at[rows == 0].max()) == 1 + off.spec.soft_tokens + 7


def test_divergence_is_of_the_teacher_from_the_student() -> None:
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.2, 0.3, 0.5]])
    expected = float((p * (p / q).log()).sum())
    assert float(kl_divergence(p.log() + 3, q.log() - 1)) == pytest.approx(expected, rel=1e-5)
    assert float(kl_divergence(q.log(), p.log())) != pytest.approx(expected, rel=1e-2)
