"""Score many outputs of a task, with several threads and workers: scoring may wait for processes of its own."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

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
    """
    if threads > 1 and len(outputs) > 1:
        with ThreadPoolExecutor(min(threads, MOST_THREADS), thread_name_prefix="score") as pool:
            scores = list(pool.map(task.score, outputs, examples))
    else:
        scores = [task.score(output, example) for output, example in zip(outputs, examples, strict=True)]
    for output, example, score in zip(outputs, examples, scores, strict=True):
        if score.stopped:
            _LOG.warning("%s: scoring stopped (%s); counted as wrong: %.200r", example.id, score.stopped, output)
    return scores


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
