"""The objective is the same number with the same gradient whether the teacher is read in the step or was kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge_common.files import read_log
from ray_bridge.caching.teacher_states import AnswerStates, TeacherStates
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.objectives.answer_kl import answer_kl
from ray_bridge.objectives.objective import backward, objective_terms
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.training import trainer
from ray_bridge.training.schedule import with_prompt
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, make_frame

LAYOUTS: list[dict[str, Any]] = [
    {"num_fewshot": 2},
    {"num_fewshot": 2, "soft_position": "before_question"},
    {"layout": "soft_only", "prompt_share": 0.5},
    {"injection": "residual"},
    {"injection": "adapter", "decode_aware": False},
]


class Wide(StepContext):
    """A step in fp64 throughout."""

    def noise(self, purpose: str) -> Tensor:
        return super().noise(purpose).double()

    def times(self) -> Tensor:
        return super().times().double()


class Alone(StepContext):
    """A step that fails where it would run the teacher."""

    @property
    def teacher(self) -> Any:  # type: ignore[override]
        raise AssertionError("the teacher's inputs were built in the step")

    @property
    def teacher_hidden(self) -> Any:  # type: ignore[override]
        raise AssertionError("the teacher was run in the step")


class AloneWide(Alone, Wide):
    """Both."""


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders)


def states_of(frame: Frame, folder: Path | None = None) -> TeacherStates:
    return TeacherStates(frame.pair.target, frame.pair.encoder, frame.splits.train, "target", folder)


def step_of(
    frame: Frame, items: Sequence[Encoded], kind: type[StepContext], answers: AnswerStates | None
) -> StepContext:
    source = read_source(frame.pair.source, items, frame.spec.source_layer)
    step_key = StepKey(seed=0, step=3)
    return kind(frame.spec, frame.pair.target, frame.translator, source, step_key, Worker(), teacher_answers=answers)


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("changes", LAYOUTS, ids=str)
def test_a_kept_teacher_changes_nothing(
    folders: PairFolders, tmp_path: Path, changes: dict[str, Any], seen: bool
) -> None:
    frame = make_frame(folders, **(changes | {"contrast_weight": 0.0, "geometry_projection": True}))
    for lm in (frame.pair.source, frame.pair.target):
        lm.model.double()
    frame.translator.double()
    items = frame.pair.encoder([frame.splits.train[i] for i in (5, 17, 2, 11)])
    items = with_prompt(items) if seen else items
    results = {}
    for kind, kept in ((Wide, None), (AloneWide, states_of(frame, tmp_path)(items))):
        step = step_of(frame, items, kind, kept)
        losses = backward(step, objective_terms(frame.spec), frame.parameters)
        gradient = torch.cat([p.grad.flatten() for p in frame.parameters if p.grad is not None])
        own = answer_kl(step_of(frame, items, kind, kept))
        results[kind] = (own.total.detach(), own.count, losses.terms, gradient)
    total, count, terms, gradient = results[Wide]
    assert gradient.dtype == torch.float64
    assert float(total) > 1e-3
    assert float(gradient.norm()) > 1e-4
    torch.testing.assert_close(results[AloneWide][0], total, rtol=1e-9, atol=1e-9)
    assert results[AloneWide][1] == count
    assert results[AloneWide][2] == pytest.approx(terms, rel=1e-9, abs=1e-9)
    torch.testing.assert_close(results[AloneWide][3], gradient, rtol=1e-9, atol=1e-9)


def test_states_belong_to_the_positions_that_the_kl_compares(frame: Frame) -> None:
    items = frame.items(6)
    step, kept = frame.step(items), states_of(frame)(items)
    assert kept is not None
    answers = step.teacher.answers
    torch.testing.assert_close(kept.states, step.teacher_hidden[answers.rows, answers.at], rtol=1e-5, atol=1e-5)
    assert list(kept.ids) == list(answers.ids)
    assert [tokens[-1] for tokens in kept.ids] == [frame.pair.target.eos] * 6
    decoded = [frame.pair.target.tokenizer.decode(tokens[:-1]) for tokens in kept.ids]
    assert decoded == [frame.pair.task.continuation(item.example) for item in items]


def test_answers_of_another_example_are_refused(frame: Frame) -> None:
    first, second, third = frame.items(3)
    states = states_of(frame)
    for items, others in (([first, second], [first, third]), ([first, second], [second, first]), ([first], [second])):
        with pytest.raises(ValueError, match="same answer tokens"):
            answer_kl(step_of(frame, items, StepContext, states(others)))
    asked = replace(first, row=replace(first.row, answer=second.row.answer))
    with pytest.raises(ValueError, match="same answer tokens"):
        answer_kl(step_of(frame, [asked], StepContext, states([first])))


def test_the_misaligned_kl_reads_the_teacher_in_the_step(folders: PairFolders) -> None:
    off = make_frame(folders, kl_alignment=False)
    items = off.items(4)
    plain = answer_kl(step_of(off, items, StepContext, None))
    kept = answer_kl(step_of(off, items, StepContext, states_of(off)(items)))
    assert torch.equal(kept.total, plain.total)
    with pytest.raises(AssertionError, match="in the step"):
        answer_kl(step_of(off, items, Alone, states_of(off)(items)))


def job_spec(folders: PairFolders, **changes: Any) -> JobSpec:
    sizes = {"soft_tokens": 4, "hidden_size": 16, "num_heads": 2, "depth": 1, "max_new_tokens": 3}
    data = {"train_examples": 20, "validation_examples": 4, "test_examples": 4, "eval_dtype": "as_trained"}
    steps = {"steps": 6, "batch_size": 4, "eval_every": 3, "warmup_steps": 1, "decode_aware": False}
    return tiny(**{"source": folders.source, "target": folders.target, **sizes, **data, **steps, **changes})


def run(spec: JobSpec, folder: Path, cache: Path | None) -> list[dict[str, float]]:
    """Run a job; every step's numbers besides times."""
    torch.set_num_threads(1)
    Trainer(spec, tiny_run(workers=1), folder, LocalSession(folder), cache).run()
    events = [event["values"] for event in read_log(folder / "events.jsonl") if event["kind"] == "metrics"]
    keep = ("loss/", "grad_norm", "validation/")
    return [{k: v for k, v in values.items() if k.startswith(keep)} for values in events]


@pytest.mark.slow
def test_a_job_that_sees_every_example_runs_no_teacher(
    folders: PairFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = job_spec(folders)
    with monkeypatch.context() as patch:
        patch.setattr(TeacherStates, "__call__", lambda *_: None)
        plain = run(spec, tmp_path / "plain", tmp_path / "cache")
    monkeypatch.setattr(trainer, "StepContext", Alone)
    asked = TeacherStates.__call__

    def when_all_is_there(states: TeacherStates, items: Sequence[Encoded]) -> AnswerStates | None:
        assert states.folder is not None
        assert len(list(states.folder.glob("teacher-*.bin"))) == 2
        return asked(states, items)

    monkeypatch.setattr(TeacherStates, "__call__", when_all_is_there)
    first = run(spec, tmp_path / "first", tmp_path / "cache")
    monkeypatch.setattr(TeacherStates, "compute", lambda *_: pytest.fail("the teacher was run again"))
    again = run(spec, tmp_path / "again", tmp_path / "cache")
    assert again == first
    assert sum("loss/answer_kl" in values for values in first) == 6
    for values, expected in zip(first, plain, strict=True):
        assert values == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"kl_alignment": False}, *(pytest.param(c, marks=pytest.mark.slow) for c in ({"steps": 4}, {"kl_weight": 0.0}))],
    ids=str,
)
def test_a_job_that_needs_no_kept_teacher_keeps_none(
    folders: PairFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(TeacherStates, "compute", lambda *_: pytest.fail("states were kept that no step asks for"))
    run(job_spec(folders, **changes), tmp_path / "job", tmp_path / "cache")
