"""Rollouts: sampled from seeds of step and example, rewarded by the task, shared out among all workers."""

from collections import Counter
from itertools import pairwise

import pytest

from ray_bridge.distributed import Worker
from ray_bridge.generation.stopping import Stopping
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.rollouts import (
    Completion,
    CompletionKey,
    draw_questions,
    reward_of,
    sample_completions,
    worker_completions,
)
from ray_bridge.objectives.step_context import StepKey
from ray_bridge.tasks.synthetic.task import SyntheticTask
from tests.support.live_bytes import LiveBytes
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, ParityTask, make_frame


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders, ParityTask)


def all_keys(frame: Frame, questions: int) -> list[CompletionKey]:
    return worker_completions(Worker(), questions, frame.spec.decode_samples)


def sample(frame: Frame, number: int, keys: list[CompletionKey], batch_size: int, seed: int = 0) -> list[Completion]:
    """Completions of the first questions; the soft tokens are those of step 0 whatever the step."""
    wanted = sorted({key.question for key in keys})
    items = [frame.items(4)[question] for question in wanted]
    soft = frame.translator.injection(frame.step(items).soft)
    soft_rows = [wanted.index(key.question) for key in keys]
    return sample_completions(frame.pair, StepKey(seed=seed, step=number), keys, soft_rows, items, soft, batch_size)


def test_the_reward_is_the_tasks_own_score() -> None:
    task = SyntheticTask(train_examples=4, test_examples=1)
    example = task.train()[0]
    assert reward_of(task.score(f"so\n#### {example.gold}", example)) == 1.1
    assert reward_of(task.score(f"#### {example.gold}.0\n\nQuestion: more #### 1", example)) == 1.1
    assert reward_of(task.score(f"#### {int(example.gold) + 1}", example)) == 0.1
    assert reward_of(task.score(f"the answer is {example.gold}", example)) == 0.0
    assert reward_of(task.score("", example)) == 0.0


def test_completions_are_scored_by_their_text(frame: Frame) -> None:
    target, task = frame.pair.target, frame.pair.task
    completions = sample(frame, 0, all_keys(frame, 4), batch_size=16)
    for completion in completions:
        special = target.tokenizer.all_special_ids
        text = target.tokenizer.decode([token for token in completion.tokens if token not in special])
        assert text == Stopping.of(target).text(completion.tokens)
        score = task.score(text, completion.item.example)
        assert completion.reward == score.correct + 0.1 * score.valid
    assert len({c.reward for c in completions}) > 1


def test_completions_end_with_eos_or_at_the_limit(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ended = [c.tokens for c in sample(frame, 1, all_keys(frame, 4), batch_size=16)]
    assert {len(tokens) for tokens in open_ended} == {12}  # random weights hardly ever write the model's own EOS
    eos = Counter(token for tokens in open_ended for token in set(tokens[2:9])).most_common(1)[0][0]
    monkeypatch.setattr(frame.pair.target, "ends", frozenset({eos}))
    closed = [c.tokens for c in sample(frame, 1, all_keys(frame, 4), batch_size=16)]
    expected = [t[: t.index(eos) + 1] if eos in t else t for t in open_ended]
    assert closed == expected
    assert closed != open_ended


def test_completions_end_at_the_tasks_stop_texts(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a policy writes after a stop text is not read, so it is neither sampled nor trained on."""
    tokenizer, task = frame.pair.target.tokenizer, frame.pair.task

    def text(tokens: tuple[int, ...]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    open_ended = sample(frame, 1, all_keys(frame, 4), batch_size=16)
    pairs = Counter(pair for c in open_ended for pair in set(map("".join, pairwise(text(c.tokens)[3:-3]))))
    stop = pairs.most_common(1)[0][0]
    monkeypatch.setattr(task, "stops", (stop,))
    closed = sample(frame, 1, all_keys(frame, 4), batch_size=16)
    assert [c.key for c in closed] == [c.key for c in open_ended]
    for before, after in zip(open_ended, closed, strict=True):
        lengths = range(1, len(before.tokens) + 1)
        end = next((n for n in lengths if stop in text(before.tokens[:n])), len(before.tokens))
        assert after.tokens == before.tokens[:end]
        score = task.score(text(after.tokens).partition(stop)[0], after.item.example)
        assert after.reward == reward_of(score)
    ended = sum(len(a.tokens) < len(b.tokens) for a, b in zip(closed, open_ended, strict=True))
    assert 1 < ended < len(closed)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_completion_does_not_depend_on_its_batch(frame: Frame, batch_size: int) -> None:
    keys = all_keys(frame, 4)
    expected = {c.key: c.tokens for c in sample(frame, 0, keys, batch_size=16)}
    assert {c.key: c.tokens for c in sample(frame, 0, keys[::-1], batch_size)} == expected


@pytest.mark.parametrize("world", [2, 3])
def test_a_completion_does_not_depend_on_its_worker(frame: Frame, world: int) -> None:
    expected = {c.key: (c.tokens, c.item.example.id) for c in sample(frame, 0, all_keys(frame, 4), batch_size=16)}
    tokens_of = {}
    for rank in range(world):
        keys = worker_completions(Worker(rank=rank, world=world), 4, frame.spec.decode_samples)
        tokens_of |= {c.key: (c.tokens, c.item.example.id) for c in sample(frame, 0, keys, batch_size=16)}
    assert tokens_of == expected


def test_seed_step_example_and_sample_make_a_completion(frame: Frame) -> None:
    keys = all_keys(frame, 4)
    first = [c.tokens for c in sample(frame, 0, keys, 16)]
    assert first == [c.tokens for c in sample(frame, 0, keys, 16)]
    assert len(set(first)) == len(first)
    assert first != [c.tokens for c in sample(frame, 1, keys, 16)]
    assert first != [c.tokens for c in sample(frame, 0, keys, 16, seed=1)]


def test_questions_are_drawn_by_seed_and_step(frame: Frame) -> None:
    spec = frame.spec
    draws = [tuple(draw_questions(spec, StepKey(seed=0, step=step), 1000)) for step in range(50)]
    assert draws == [tuple(draw_questions(spec, StepKey(seed=0, step=step), 1000)) for step in range(50)]
    assert len(set(draws)) == 50
    assert all(len(set(draw)) == spec.decode_questions for draw in draws)
    assert draws[0] != tuple(draw_questions(spec, StepKey(seed=1, step=0), 1000))
    assert sorted(draw_questions(spec, StepKey(seed=0, step=0), 3)) == [0, 1, 2]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 16])
def test_all_workers_get_an_equal_share(world: int) -> None:
    shares = [worker_completions(Worker(rank=rank, world=world), 4, 4) for rank in range(world)]
    together = [key for share in shares for key in share]
    assert together == [CompletionKey(question=q, sample=g) for q in range(4) for g in range(4)]
    assert min(map(len, shares)) >= 1
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_memory_of_generation_is_bounded_by_its_batch(folders: PairFolders) -> None:
    frame = make_frame(folders, ParityTask)
    peaks = {}
    for questions, batch_size in ((2, 4), (4, 4), (4, 8)):
        items = [frame.items(1)[0]] * questions
        soft = SoftContext(tokens=frame.step(items).soft.detach())
        keys = worker_completions(Worker(), questions, 4)
        soft_rows = [key.question for key in keys]
        with LiveBytes() as live:
            sample_completions(frame.pair, StepKey(seed=0, step=0), keys, soft_rows, items, soft, batch_size)
        peaks[questions, batch_size] = live.peak
    assert peaks[4, 4] <= 1.05 * peaks[2, 4]
    assert peaks[4, 8] > 1.5 * peaks[4, 4]
