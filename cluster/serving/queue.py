"""Bound the questions in progress: so many at the replicas, so many that wait; requests beyond are refused whole.

Questions wait here and not in Ray Serve's router. The router refuses single questions of a request, whose others are
then decoded for nothing; and once a replica has no place left it looks for one at growing intervals, up to half a
second, so that a full queue is answered several times slower than the replicas can.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from cluster.serving.errors import overloaded


class QuestionQueue:
    """The questions of a server that are not answered yet, first come, first served.

    Args:
        at_once: questions that replicas hold at a time.
        waiting: further ones that may wait.

    Attributes:
        begun: questions that a replica was given so far.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self.at_once, self.waiting = at_once, waiting
        self.begun = 0
        self._places, self._open = asyncio.Semaphore(at_once), 0

    @property
    def most(self) -> int:
        """Questions that fit at all."""
        return self.at_once + self.waiting

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait until replicas can take one more question, which takes its place until the block ends."""
        async with self._places:
            self.begun += 1
            yield

    @contextmanager
    def admitted(self, questions: int) -> Iterator[None]:
        """Count a request's questions as in progress until the block ends.

        Args:
            questions: of the request; it is admitted with all of them or not at all.

        Raises:
            ApiError: if there is no room for them.
        """
        if self._open + questions > self.most:
            raise overloaded(questions, self.most - self._open)
        self._open += questions
        try:
            yield
        finally:
            self._open -= questions
