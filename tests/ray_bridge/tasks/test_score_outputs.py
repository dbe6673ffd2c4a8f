"""Scores of many outputs: the same on one, two and four workers, with one thread and with several."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.distributed import Worker
from ray_bridge.tasks.competition_math import CompetitionMath
from ray_bridge.tasks.score_outputs import score_on_workers, score_outputs
from ray_bridge.tasks.task import Example, Score
from tests.support.workers import on_workers

TASK = CompetitionMath()
# The fourth is stopped at its limit of time: wrong on any number of workers.
TOWER = r"\boxed{10^{10^{10^{10}}}}"
OUTPUTS = [r"\boxed{0.5}", r"\boxed{\frac12}", "so it is $1/2$", TOWER, "no idea", r"\boxed{2}", r"\boxed{50\%}"]
OUTPUTS += [OUTPUTS[i] for i in (5, 0, 6, 2)]
EXAMPLES = [Example(id=f"math-{i}", index=i, question="?", answer="", gold=r"\frac{1}{2}") for i in range(len(OUTPUTS))]


def write_scores(worker: Worker, folder: Path, threads: int) -> None:
    scores = score_on_workers(TASK, OUTPUTS, EXAMPLES, worker, threads)
    name = f"{worker.world}-{worker.rank}-{threads}.json"
    (folder / name).write_text(json.dumps([asdict(score) for score in scores]))


@pytest.mark.slow
def test_scores_are_the_same_on_any_number_of_workers(tmp_path: Path) -> None:
    write_scores(Worker(), tmp_path, 1)
    write_scores(Worker(), tmp_path, 3)
    on_workers(2, write_scores, tmp_path, 1)
    on_workers(4, write_scores, tmp_path, 2)
    written = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert len(written) == 2 + 2 + 4
    assert set(written) == {written[0]}
    first = json.loads(written[0])[:7]
    assert [score["correct"] for score in first] == [True, True, False, False, False, False, True]
    assert [score["flexible"] for score in first] == [True, True, True, False, False, False, True]


def test_an_output_whose_scoring_was_stopped_is_wrong_and_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="ray_bridge"):
        scores = score_outputs(TASK, OUTPUTS[:5], EXAMPLES[:5])
    assert [score.stopped for score in scores] == [None, None, None, "more than 0.9 s of CPU time", None]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("math-3: scoring stopped (more than 0.9 s of CPU time); counted as wrong")


class FailsAt(CompetitionMath):
    """A task whose code fails, or returns no score, for one output."""

    def __init__(self, output: str, returned: Any) -> None:
        super().__init__()
        self.output, self.returned = output, returned

    def score(self, output: str, example: Example) -> Score:
        if output != self.output:
            return super().score(output, example)
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned  # type: ignore[no-any-return]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (ZeroDivisionError("by zero"), "failed for math-2: ZeroDivisionError: by zero"),
        (None, "returned None for math-2: a Score is expected"),
        (7, "returned 7 for math-2: a Score is expected"),
    ],
)
def test_a_task_of_ones_own_that_cannot_score_is_one_line(returned: Any, said: str, threads: int) -> None:
    task = FailsAt(OUTPUTS[2], returned)
    with pytest.raises(UserError) as error:
        score_outputs(task, OUTPUTS[:3], EXAMPLES[:3], threads)
    assert str(error.value) == f"`score` of {FailsAt.__module__}.FailsAt {said}"
