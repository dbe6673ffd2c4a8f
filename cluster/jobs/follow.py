"""Follow a job's log over connections that break: nothing printed twice, and an end even when the head is gone."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bridge_common.errors import UserError
from bridge_common.threads import NoAnswerError, bounded

POLL_S = 1.0
ANSWER_S = 15.0
GONE_S = 60.0


class Follower:
    """Prints a job's log as it grows, and returns Ray's record of the job once it has ended.

    Ray's log stream carries no end of its own when a head dies: the socket just stays open. So the job's status is
    asked beside it, and that decides.
    """

    def __init__(
        self, client: Any, job: str, out: Callable[[str], None], *, gone_s: float = GONE_S, answer_s: float = ANSWER_S
    ) -> None:
        self.client, self.job, self.out = client, job, out
        self.gone_s, self.answer_s = gone_s, answer_s
        self.printed = 0

    def run(self) -> Any:
        """Follow until the job has ended.

        Raises:
            UserError: the head has not answered for `gone_s` seconds.
        """
        return asyncio.run(self._follow())

    async def _follow(self) -> Any:
        tail = asyncio.create_task(self._tail())
        try:
            details = await self._ended()
        except BaseException:
            tail.cancel()
            raise
        await asyncio.wait([tail], timeout=5)  # the last lines are still on their way
        tail.cancel()
        self._rest()
        return details

    async def _ended(self) -> Any:
        heard = time.monotonic()
        while True:
            try:
                details = await asyncio.to_thread(bounded, lambda: self.client.get_job_info(self.job), self.answer_s)
                heard = time.monotonic()
                if details.status.is_terminal():
                    return details
            except (OSError, RuntimeError, NoAnswerError) as error:
                if time.monotonic() - heard > self.gone_s:
                    raise UserError(
                        f"the head has not answered for {self.gone_s:g} s while job {self.job} ran; "
                        "when it is back, submit again: the phase resumes"
                    ) from error
            await asyncio.sleep(POLL_S)

    async def _tail(self) -> None:
        """Print what streams in; the stream always begins at the log's start, so what was printed is skipped."""
        import aiohttp

        while True:
            seen = 0
            try:
                async for text in self.client.tail_job_logs(self.job):
                    new = text[max(0, self.printed - seen) :]
                    seen += len(text)
                    if new:
                        self.printed = seen
                        self.out(new)
                return
            except (OSError, RuntimeError, aiohttp.ClientError):
                await asyncio.sleep(POLL_S)

    def _rest(self) -> None:
        """What the stream did not deliver, from the whole log."""
        try:
            whole = bounded(lambda: self.client.get_job_logs(self.job), self.answer_s)
        except (OSError, RuntimeError, NoAnswerError):
            return  # the job's status is known; a log that cannot be read any more changes nothing in it
        if len(whole) > self.printed:
            self.out(whole[self.printed :])
            self.printed = len(whole)
