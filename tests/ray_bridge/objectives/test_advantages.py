"""Advantages within each question's group of completions, and what is recorded of a step's completions."""

import pytest

from ray_bridge.distributed import Worker
from ray_bridge.objectives.policy_gradient import compute_advantages
from ray_bridge.objectives.rollouts import Completion, CompletionKey, reward_of
from ray_bridge.tasks.task import Score
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, make_frame


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders)


def completions(frame: Frame, rewards: dict[int, list[float]]) -> list[Completion]:
    """Return completions of questions with given rewards; the number of tokens is the sample's number plus one."""
    (item,) = frame.items(1)
    return [
        Completion(
            key=CompletionKey(question=question, sample=sample),
            item=item,
            soft_row=0,
            tokens=(7,) * (sample + 1),
            reward=reward,
        )
        for question, group in rewards.items()
        for sample, reward in enumerate(group)
    ]


def test_each_reward_is_compared_with_the_others_of_its_question(frame: Frame) -> None:
    rewards = {0: [1.0, 0.0, 0.5], 3: [0.1, 0.1, 0.1]}
    advantages, metrics = compute_advantages(Worker(), completions(frame, rewards)[::-1], 3)
    expected = {(0, 0): 0.75, (0, 1): -0.75, (0, 2): 0.0, (3, 0): None, (3, 1): None, (3, 2): None}
    assert {(key.question, key.sample) for key in advantages} == set(expected)
    for key, value in advantages.items():
        wanted = expected[key.question, key.sample]
        assert value is None if wanted is None else value == pytest.approx(wanted)
    assert metrics == pytest.approx(
        {"decode/reward_mean": 1.8 / 6, "decode/frac_zero_advantage": 0.5, "decode/tokens": 2.0}
    )


def test_the_share_of_equal_groups_is_of_the_questions(frame: Frame) -> None:
    _, metrics = compute_advantages(Worker(), completions(frame, {0: [1, 1], 1: [0, 0], 2: [0, 1]}), 2)
    assert metrics["decode/frac_zero_advantage"] == pytest.approx(2 / 3)
    assert metrics["decode/reward_mean"] == pytest.approx(0.5)
    assert metrics["decode/tokens"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("correct", "valid", "reward"), [(True, True, 1.1), (True, False, 1.0), (False, True, 0.1), (False, False, 0.0)]
)
def test_a_right_answer_earns_1_and_a_well_formed_one_a_tenth(correct: bool, valid: bool, reward: float) -> None:
    assert reward_of(Score(answer=None, correct=correct, flexible=False, valid=valid)) == pytest.approx(reward)
