"""Rollouts: completions that the target samples in training, with the rewards that the task gives them.

Every draw is seeded by seed, step, example and sample number, so a completion does not depend on worker or batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import generator, stable_seed
from ray_bridge.objectives.step_context import StepKey
from ray_bridge.tasks.score_outputs import score_outputs
from ray_bridge.tasks.task import Score

WELL_FORMED = 0.1
"""Reward of an answer in the task's format, right or wrong; a right answer earns 1 more."""


@dataclass(frozen=True, kw_only=True)
class CompletionKey:
    """Which completion of a step.

    Attributes:
        question: index of its question among the step's.
        sample: 0 to G - 1, its number among the question's completions.
    """

    question: int
    sample: int


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A sampled completion.

    Attributes:
        key: which completion of the step.
        item: the example that it answers.
        soft_row: row of the example's soft tokens among those of this worker.
        tokens: generated ids, with EOS if it was reached.
        reward: see `reward_of`.
    """

    key: CompletionKey
    item: Encoded
    soft_row: int
    tokens: tuple[int, ...]
    reward: float


def draw_questions(spec: JobSpec, step_key: StepKey, available: int) -> list[int]:
    """Draw a step's questions without replacement; returns their indices among the training examples.

    The draw is the same on every worker.
    """
    rng = np.random.default_rng(stable_seed("decode questions", step_key.seed, step_key.step))
    count = min(spec.decode_questions, available)
    return [int(i) for i in rng.choice(available, size=count, replace=False)]


def worker_completions(worker: Worker, questions: int, samples: int) -> list[CompletionKey]:
    """Return the completions that this worker samples: an equal, contiguous share of all.

    Completions rather than questions are shared out, so that every worker has work even with few questions.
    """
    keys = [CompletionKey(question=q, sample=g) for q in range(questions) for g in range(samples)]
    begin, end = (len(keys) * rank // worker.world for rank in (worker.rank, worker.rank + 1))
    return keys[begin:end]


def reward_of(score: Score) -> float:
    """Return the reward of a completion: 1 if the task's strict score is right, plus 0.1 if it is well-formed."""
    return float(score.correct) + WELL_FORMED * float(score.valid)


def sample_completions(
    pair: ModelPair,
    step_key: StepKey,
    keys: Sequence[CompletionKey],
    soft_rows: Sequence[int],
    items: Sequence[Encoded],
    soft: SoftContext,
    batch_size: int,
    statistics: DecodingStatistics | None = None,
) -> list[Completion]:
    """Sample completions from the target and reward them.

    Args:
        pair: the target generates, the task scores.
        step_key: seeds the samples, together with the example's id and the sample's number.
        keys: the completions to sample.
        soft_rows: for each of them, the index of its example in `items` and `soft`.
        items: q examples.
        soft: their soft tokens (q, K, d_t), and the adapters that read them.
        batch_size: completions decoded together; changes speed and memory only.
        statistics: counts of decoding, which are added to.
    """
    spec, soft = pair.spec, soft.detach()
    stopping, completions = Stopping.of(pair.target, pair.task.stops), []
    for start in range(0, len(keys), batch_size):
        batch = list(zip(keys[start : start + batch_size], soft_rows[start : start + batch_size], strict=True))
        seeds = [(step_key.seed, step_key.step, items[row].example.id, key.sample) for key, row in batch]
        sampling = Sampling(
            temperature=spec.decode_temperature, generators=[generator("completion", *seed) for seed in seeds]
        )
        rows = [replace(items[row].row, answer=()) for _, row in batch]
        own_soft = soft.rows([row for _, row in batch])
        sampled = decode_rows(pair.target, rows, own_soft, spec.max_new_tokens, sampling, statistics, pair.task.stops)
        texts = [stopping.text(ids) for ids in sampled]
        scores = score_outputs(pair.task, texts, [items[row].example for _, row in batch], torch.get_num_threads())
        for (key, row), ids, score in zip(batch, sampled, scores, strict=True):
            completions.append(
                Completion(key=key, item=items[row], soft_row=row, tokens=tuple(ids), reward=reward_of(score))
            )
    return completions
