"""A Ray actor that is the job queue of one resident group.

The trial's actor puts in one job at a time; every worker of the group fetches it and reports to it.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

Report = tuple[dict[str, float], str]
"""Metrics of a checkpoint, and the checkpoint's folder."""


class Desk:
    """Hands one job at a time to all workers of a group; `ray.remote` makes an actor of it.

    Args:
        workers: number of workers.
        idle_s: seconds without a job after which it closes, and the workers end and free their GPUs.
    """

    def __init__(self, workers: int, idle_s: float) -> None:
        self._workers, self._idle_s = workers, idle_s
        self._job: dict[str, Any] | None = None
        self._number = 0  # of the job handed out last, from 1
        self._handed: dict[int, int] = {}  # number of the job that each rank was given last
        self._ended: set[int] = set()  # ranks that have ended it
        self._reports: list[Report] = []
        self._closed = False
        self._free_since = float("inf")  # when a worker last asked for a job, by time.monotonic()
        self._changed = asyncio.Condition()

    async def ask(self, job: dict[str, Any]) -> bool:
        """Hand a job to the workers; return False if the desk is closed, and the job not taken."""
        async with self._changed:
            if self._closed:
                return False
            self._job, self._number, self._ended, self._reports = job, self._number + 1, set(), []
            self._changed.notify_all()
        return True

    async def next_job(self, rank: int, done: int) -> dict[str, Any] | None:
        """Wait for a worker's next job; None if there will be none.

        Args:
            rank: the worker.
            done: jobs that it has ended.

        Raises:
            RuntimeError: a worker that was started anew asks: it would be given a job that has ended.
        """
        async with self._changed:
            if done != self._handed.get(rank, 0):
                raise RuntimeError(f"worker {rank} was started anew in a group that has run jobs")
            if done:
                self._ended.add(rank)
                self._changed.notify_all()
            self._free_since = time.monotonic()
            while self._number <= done and not self._closed:
                left = self._free_since + self._idle_s - time.monotonic()
                if left <= 0:
                    self._closed = True
                    self._changed.notify_all()
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left)
            if self._number == done:
                return None
            self._handed[rank] = self._number
            return self._job

    async def report(self, metrics: dict[str, float], folder: str) -> None:
        """Take the metrics of a complete checkpoint of the job."""
        async with self._changed:
            self._reports.append((metrics, folder))
            self._changed.notify_all()

    async def follow(self, seen: int, within_s: float) -> tuple[list[Report], bool, bool]:
        """Wait for news of the job.

        Args:
            seen: reports that the caller has had.
            within_s: seconds to wait for news at most.

        Returns:
            The reports after the first `seen`, whether a worker has begun the job, and whether all have ended it.
        """
        async with self._changed:
            news = self._changed.wait_for(lambda: len(self._reports) > seen or self._all_ended())
            with suppress(TimeoutError):
                await asyncio.wait_for(news, within_s)
            return self._reports[seen:], self._number in self._handed.values(), self._all_ended()

    async def close(self) -> None:
        """Let the workers end once they have no job."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _all_ended(self) -> bool:
        return len(self._ended) == self._workers
