"""Scoring in Ray workers: in threads of theirs, as Ray Train runs a job; nothing is left when a worker is killed."""

import os
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import ray

from tests.support.waiting import wait_for

TOWER = r"\boxed{10^{10^{10^{10}}}}"


@ray.remote
class Scorer:
    """A Ray worker that scores MATH outputs in threads."""

    def score(self, outputs: list[str]) -> list[tuple[bool, str | None]]:
        """Return the strict verdict of each output, and why scoring stopped."""
        from ray_bridge.tasks.competition_math import CompetitionMath
        from ray_bridge.tasks.task import Example

        task = CompetitionMath()
        example = Example(id="x", index=0, question="?", answer="", gold=r"\frac{1}{2}")
        with ThreadPoolExecutor(3) as threads:
            scores = list(threads.map(lambda output: task.score(output, example), outputs))
        return [(score.correct, score.stopped) for score in scores]

    def processes(self) -> list[int]:
        """Return this worker's processes: itself and all below it."""
        return [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]

    def pid(self) -> int:
        """Return this worker's process."""
        return os.getpid()


@pytest.mark.slow
@pytest.mark.usefixtures("connected_ray")
def test_threads_of_ray_workers_score_and_leave_nothing_behind() -> None:
    workers = [Scorer.remote() for _ in range(2)]
    outputs = [r"\boxed{0.5}", TOWER, r"\boxed{2}", r"so \boxed{\frac12}", r"\boxed{50\%}"]
    expected = [
        (True, None),
        (False, "more than 0.9 s of CPU time"),
        (False, None),
        (True, None),
        (True, None),
    ]
    assert ray.get([worker.score.remote(outputs) for worker in workers]) == [expected, expected]
    pids = [pid for worker in workers for pid in ray.get(worker.processes.remote())]
    assert len(pids) > 4  # each worker has scoring processes that stay warm
    assert ray.get(workers[0].score.remote([r"\boxed{1/2}"])) == [(True, None)]
    os.kill(ray.get(workers[0].pid.remote()), 9)
    ray.kill(workers[1])
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), 30, "all processes of the killed workers are gone")
