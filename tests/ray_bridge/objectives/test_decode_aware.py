"""Decode-aware terms: which completions count, and that both terms share them."""

from dataclasses import replace

import pytest
import torch

from ray_bridge.distributed import Worker
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives import decode_aware
from ray_bridge.objectives.decode_aware import DecodeAware, decode_terms
from ray_bridge.objectives.objective import backward
from ray_bridge.objectives.rollouts import Completion, sample_completions, worker_completions
from ray_bridge.objectives.step_context import StepContext
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.tasks.task import Example, Score
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, ParityTask, SameTask, make_frame
from tests.support.rollouts import UNLIMITED
from tests.support.workers import on_workers


class OneVaries(SyntheticTask):
    """Only one question's completions differ in reward."""

    varies = ""

    def score(self, output: str, example: Example) -> Score:
        correct = example.id == self.varies and len(output) % 2 == 0
        return Score(answer=None, correct=correct, flexible=correct, valid=False)


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders, ParityTask, max_new_tokens=30, decode_temperature=1.5)


def test_equal_rewards_contribute_nothing(folders: PairFolders) -> None:
    frame = make_frame(folders, SameTask)
    terms = decode_terms(frame.spec, frame.pair, frame.splits.train, batch_size=16)
    step = frame.step(frame.items(6))
    losses = backward(step, terms, frame.parameters, term_norms=True)
    assert terms[0].compute(step).count == 0
    assert losses.terms["rloo"] == 0
    assert losses.gradient_norms["rloo"] == 0
    assert losses.gradient_norms["on_policy_distill"] > 0
    assert losses.metrics["decode/frac_zero_advantage"] == 1
    assert losses.metrics["decode/reward_mean"] == pytest.approx(1.1)


def test_only_groups_of_unequal_rewards_count(folders: PairFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = make_frame(folders, OneVaries, decode_questions=3, decode_samples=6)
    train = frame.splits.train[:3]
    monkeypatch.setattr(OneVaries, "varies", train[1].id)
    step = frame.step(frame.items(6))
    mixed = DecodeAware(frame.pair, train, batch_size=64, micro_tokens=UNLIMITED)
    alone = DecodeAware(frame.pair, train[1:2], batch_size=64, micro_tokens=UNLIMITED)
    term, expected = mixed.rloo(step), alone.rloo(step)
    assert expected.metrics["decode/frac_zero_advantage"] == 0
    assert term.metrics["decode/frac_zero_advantage"] == pytest.approx(2 / 3)
    assert term.count == expected.count > 0
    torch.testing.assert_close(term.total, expected.total, rtol=1e-4, atol=1e-4)
    assert mixed.distill(step).count > alone.distill(step).count


@pytest.mark.slow
def test_a_worker_without_completions_records_what_all_do(folders: PairFolders) -> None:
    """Of three workers that share two completions the first, whose metrics are recorded, has none."""
    on_workers(3, records_the_rewards_of_all, folders)


def records_the_rewards_of_all(worker: Worker, folders: PairFolders) -> None:
    """One of three workers: run both terms of a step and look at the metrics."""
    frame = make_frame(folders, SameTask, decode_questions=1, decode_samples=2)
    assert len(worker_completions(worker, 1, 2)) == min(worker.rank, 1)
    terms = decode_terms(frame.spec, frame.pair, frame.splits.train, batch_size=16)
    losses = backward(frame.step(frame.items(2), worker=worker), terms, frame.parameters)
    assert losses.metrics["decode/reward_mean"] == pytest.approx(1.1)


def test_both_terms_share_the_completions_of_a_step(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: object) -> list[Completion]:
        calls.append(1)
        return sample_completions(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decode_aware, "sample_completions", counted)
    decode = DecodeAware(frame.pair, frame.splits.train, batch_size=64, micro_tokens=UNLIMITED)
    step = frame.step(frame.items(6))
    assert decode.rloo(step).metrics == decode.distill(step).metrics
    assert len(calls) == 1
    decode.rloo(frame.step(frame.items(6), number=1))
    assert len(calls) == 2


def test_completions_are_sampled_with_the_adapters(folders: PairFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = make_frame(folders, ParityTask, injection="adapter")
    for adapter in frame.translator.injection.adapters.values():
        torch.nn.init.constant_(adapter.gate, 2.0)
    calls = []

    def recorded(*arguments: object) -> list[Completion]:
        calls.append((arguments, sample_completions(*arguments)))  # type: ignore[arg-type]
        return calls[-1][1]

    monkeypatch.setattr(decode_aware, "sample_completions", recorded)
    DecodeAware(frame.pair, frame.splits.train, batch_size=64, micro_tokens=UNLIMITED).rloo(frame.step(frame.items(2)))
    [(arguments, completions)] = calls

    def again(**changes: object) -> list[tuple[int, ...]]:
        given = [replace(x, **changes) if isinstance(x, SoftContext) else x for x in arguments]  # type: ignore[arg-type]
        return [c.tokens for c in sample_completions(*given)]  # type: ignore[arg-type]

    assert again() == [c.tokens for c in completions]
    assert again(adapters={}) != [c.tokens for c in completions]


def test_a_finished_step_is_freed(frame: Frame) -> None:
    decode = DecodeAware(frame.pair, frame.splits.train, batch_size=64, micro_tokens=UNLIMITED)
    step: StepContext | None = frame.step(frame.items(2))
    decode.rloo(step)  # type: ignore[arg-type]
    assert len(decode._terms_of) == 1
    step = None
    assert len(decode._terms_of) == 0
