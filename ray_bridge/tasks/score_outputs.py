"""Score many outputs of a task, with several threads and workers: scoring may wait for processes of its own."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bridge_common.errors import UserError, reason_of
from ray_bridge.distributed import Worker
from ray_bridge.tasks.task import Example, Score, Task

MOST_THREADS = 8
"""Outputs that one process scores at the same time, each with up to 70 MB of scoring processes."""

_LOG = logging.getLogger(__name__)


def score_outputs(task: Task, outputs: Sequence[str], examples: Sequence[Example], threads: int = 1) -> list[Score]:
    """Score outputs, in their order; one whose scoring was stopped counts as wrong and is logged.

    Args:
        task: what scores; from several threads at a time.
        outputs: one text for each example.
        examples: with the gold answers.
        threads: outputs that are scored at the same time; changes speed only.

    Raises:
        UserError: with the example's id, if the task's code fails or returns no score.
    """
    score_one = partial(_score, task)
    if threads > 1 and len(outputs) > 1:
        with ThreadPoolExecutor(min(threads, MOST_THREADS), thread_name_prefix="score") as pool:
            scores = list(pool.map(score_one, outputs, examples))
    else:
        scores = [score_one(output, example) for output, example in zip(outputs, examples, strict=True)]
    for output, example, score in zip(outputs, examples, scores, strict=True):
        if score.stopped:
            _LOG.warning("%s: scoring stopped (%s); counted as wrong: %.200r", example.id, score.stopped, output)
    return scores


def _score(task: Task, output: str, example: Example) -> Score:
    try:
        score = task.score(output, example)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_named(task)} failed for {example.id}: {reason_of(error)}") from error
    if not isinstance(score, Score):
        raise UserError(f"{_named(task)} returned {score!r:.100} for {example.id}: a Score is expected")
    return score


def _named(task: Task) -> str:
    return f"`score` of {type(task).__module__}.{type(task).__qualname__}"


def score_on_workers(
    task: Task, outputs: Sequence[str], examples: Sequence[Example], worker: Worker, threads: int = 1
) -> list[Score]:
    """Score outputs, each on one of the workers; every worker returns all scores, the same for any number of workers.

    Args:
        task: what scores.
        outputs: one text for each example, the same on every worker.
        examples: with the gold answers.
        worker: this process among its peers.
        threads: outputs that a worker scores at the same time; changes speed only.
    """
    mine = worker.share(len(outputs))
    scores = score_outputs(task, [outputs[i] for i in mine], [examples[i] for i in mine], threads)
    together: dict[int, Score] = {}
    for part in worker.gather(dict(zip(mine, scores, strict=True))):
        together.update(part)  # type: ignore[call-overload]
    return [together[i] for i in range(len(outputs))]
