"""What a step draws and embeds: a function of seed, step and example alone."""

from dataclasses import replace

import pytest
import torch

from ray_bridge.inputs.resample import resample
from ray_bridge.noise import generator, normal, uniform
from ray_bridge.objectives.step_context import StepContext, empty_term
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, make_frame


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders, condition_dropout=0.5, seed=3)


def ids(step: StepContext) -> list[str]:
    return [item.example.id for item in step.items]


def test_noise_is_of_its_purpose_the_seed_the_step_and_the_example(frame: Frame) -> None:
    step = frame.step(frame.items(3), number=5)
    expected = normal((4, frame.pair.target.hidden_size), [("flow", 3, 5, one) for one in ids(step)])
    assert torch.equal(step.noise("flow"), expected)
    assert not torch.equal(step.noise("flow"), step.noise("sampler"))
    assert torch.equal(frame.step(frame.items(3)[::-1], number=5).noise("flow"), expected.flip(0))


def test_soft_tokens_come_from_the_noise_of_the_sampler(frame: Frame) -> None:
    step = frame.step(frame.items(3), number=5)
    sampled = frame.translator.sample(step.noise("sampler"), None, *step.bridge_inputs)
    assert torch.equal(step.soft, sampled)
    assert step.soft is step.soft, "computed once"


def test_times_are_logit_normal_draws_of_the_example(frame: Frame) -> None:
    step = frame.step(frame.items(3), number=5)
    draws = [torch.randn((), generator=generator("time", 3, 5, one)) for one in ids(step)]
    assert torch.equal(step.times(), torch.stack(draws).sigmoid())


def test_rows_lose_their_condition_as_often_as_the_spec_says(frame: Frame) -> None:
    step = frame.step(frame.items(24), number=5)
    draws = [uniform(("drop", 3, 5, one)) for one in ids(step)]
    assert step.dropped is not None
    assert step.dropped.tolist() == [draw < 0.5 for draw in draws]
    assert len(set(step.dropped.tolist())) == 2
    always = replace(frame, spec=frame.spec.replace(condition_dropout=1.0)).step(frame.items(2))
    assert always.dropped is not None
    assert always.dropped.tolist() == [True, True]
    assert replace(frame, spec=frame.spec.replace(condition_dropout=0.0)).step(frame.items(2)).dropped is None


def test_texts_are_embedded_at_unit_size_and_resampled_to_k_positions(frame: Frame) -> None:
    step, target = frame.step(frame.items(2)), frame.pair.target
    texts = [[5, 6, 7], [8] * 9]
    slots = step.text_slots(texts)
    assert not slots.requires_grad
    for slot, text in zip(slots, texts, strict=True):
        embedded = target.embed(torch.tensor(text)).float() / target.embedding_rms
        torch.testing.assert_close(slot, resample(embedded, 4))
    assert torch.equal(step.question_slots, step.text_slots([item.question_ids for item in step.items]))


def test_student_and_teacher_read_their_own_rows(frame: Frame) -> None:
    step = frame.step(frame.items(3))
    student_lengths = [len(i.row.before) + 4 + len(i.row.prompt) + len(i.row.answer) for i in step.items]
    teacher_lengths = [len(i.text_row.prompt) + len(i.text_row.answer) for i in step.items]
    assert step.student.mask.sum(1).tolist() == student_lengths
    assert step.teacher.mask.sum(1).tolist() == teacher_lengths
    assert step.student.mask[:, 0].tolist() == step.teacher.mask[:, 0].tolist() == [1, 1, 1], "pads stand at the end"
    assert step.student_hidden.requires_grad
    assert not step.teacher_hidden.requires_grad


@pytest.mark.parametrize("aligned", [True, False])
def test_the_misaligned_teacher_reads_the_header_in_every_row(folders: PairFolders, aligned: bool) -> None:
    frame = make_frame(folders, num_fewshot=2, kl_alignment=aligned)
    step = frame.step(frame.items(2))
    assert (step.teacher.prefix is not None) is aligned


def test_a_term_without_rows(frame: Frame) -> None:
    nothing = empty_term(torch.ones(3, 2, dtype=torch.float64, requires_grad=True))
    assert (float(nothing.total), nothing.count, dict(nothing.metrics)) == (0.0, 0.0, {})
    assert nothing.total.dtype == torch.float64
    assert not nothing.total.requires_grad
