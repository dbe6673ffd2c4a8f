"""Free generation in training: which questions, whose turn, what was written, and what it was worth.

Every draw is keyed by seed, step, example and sample, so that a completion is the same on any worker, in any batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.generation.generate import decode_rows, text_of
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import generator, stable_seed
from ray_bridge.objectives.step_context import StepKey
from ray_bridge.tasks.task import Example, Task

WELL_FORMED = 0.1


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One completion that is to be written.

    Attributes:
        question: place of its question among the step's.
        sample: 0 to G - 1, which of the question's completions.
    """

    question: int
    sample: int


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One completion that was written.

    Attributes:
        turn: whose it is.
        item: its example.
        place: row of its soft tokens.
        tokens: generated ids, EOS included where it was reached.
        reward: what it was worth.
    """

    turn: Turn
    item: Encoded
    place: int
    tokens: tuple[int, ...]
    reward: float


def draw_questions(spec: JobSpec, step_key: StepKey, available: int) -> list[int]:
    """Places in the training examples of a step's questions, the same on every worker, none twice."""
    chance = np.random.default_rng(stable_seed("decode questions", step_key.seed, step_key.step))
    count = min(spec.decode_questions, available)
    return [int(i) for i in chance.choice(available, size=count, replace=False)]


def turns_of(worker: Worker, questions: int, samples: int) -> list[Turn]:
    """This worker's completions: an equal run of them all, so that few questions still give every worker a part."""
    everyone = [Turn(question=q, sample=g) for q in range(questions) for g in range(samples)]
    begin, end = (len(everyone) * rank // worker.world for rank in (worker.rank, worker.rank + 1))
    return everyone[begin:end]


def reward_of(task: Task, text: str, example: Example) -> float:
    """The task's own strict score, and a little for the form: correct + 0.1 x well-formed."""
    score = task.score(text, example)
    return float(score.correct) + WELL_FORMED * float(score.valid)


def write(
    pair: ModelPair,
    step_key: StepKey,
    turns: Sequence[Turn],
    places: Sequence[int],
    items: Sequence[Encoded],
    soft: SoftContext,
    batch_size: int,
    statistics: DecodingStatistics | None = None,
) -> list[Completion]:
    """Sample and score completions.

    Args:
        pair: the target writes, the task scores.
        step_key: keys the samples, with the example and the number of the sample.
        turns: the completions to write.
        places: which item each of them continues.
        items: q examples.
        soft: their soft tokens (q, K, d_t), and the adapters that read them.
        batch_size: completions decoded together; changes speed and memory only.
        statistics: of decoding; is added to.
    """
    spec, soft = pair.spec, soft.detach()
    written = []
    for start in range(0, len(turns), batch_size):
        part = list(zip(turns[start : start + batch_size], places[start : start + batch_size], strict=True))
        keys = [(step_key.seed, step_key.step, items[place].example.id, turn.sample) for turn, place in part]
        sampling = Sampling(
            temperature=spec.decode_temperature, generators=[generator("completion", *key) for key in keys]
        )
        rows = [replace(items[place].row, answer=()) for _, place in part]
        own = soft.rows([place for _, place in part])
        drawn = decode_rows(pair.target, rows, own, spec.max_new_tokens, sampling, statistics)
        for (turn, place), ids in zip(part, drawn, strict=True):
            item = items[place]
            reward = reward_of(pair.task, text_of(pair.target, ids), item.example)
            written.append(Completion(turn=turn, item=item, place=place, tokens=tuple(ids), reward=reward))
    return written


def leave_one_out(rewards: Sequence[float]) -> list[float] | None:
    """RLOO's advantages of one question's completions: each reward minus the mean of the others.

    Ahmadian et al. 2024, "Back to Basics". None for a group of equal rewards, which has nothing to tell apart.
    """
    if max(rewards) == min(rewards):
        return None
    total, others = sum(rewards), len(rewards) - 1
    return [reward - (total - reward) / others for reward in rewards]
