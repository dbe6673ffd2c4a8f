"""Follow a job's log over connections that break: print every line once, and end even if the head is gone."""

import asyncio
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from bridge_common.errors import UserError
from bridge_common.threads import NoAnswerError, bounded
from cluster.jobs.client import first_line
from cluster.program import program

POLL_S = 1.0
ANSWER_S = 15.0
GONE_S = 60.0


def follow_job(client: Any, job: str, out: Callable[[str], Any] | None = None) -> int:
    """Print a job's log until it ends, over lost connections, and return the phase's exit code.

    Raises:
        UserError: if there is no such job, or the head has not answered for a minute.
    """
    write = out or write_out
    try:
        details = Follower(client, job, write).run()
    except KeyboardInterrupt:
        write(f"\nthe job continues; to stop it: {program()} jobs stop {job}\n")
        return 130
    code = exit_code(details)
    outcome = {"SUCCEEDED": "succeeded", "STOPPED": "was stopped"}.get(
        str(details.status), f"failed with exit code {code}"
    )
    reason = "" if details.driver_exit_code is not None or code == 0 else f": {first_line(details.message)}"
    write(f"job {job} {outcome}{reason}\n")
    return code


def exit_code(details: Any) -> int:
    """Return the phase's exit code from Ray's record of a job; 1 if the phase itself did not end."""
    if str(details.status) == "SUCCEEDED":
        return 0
    code = details.driver_exit_code
    if code is None and (match := re.search(r"failed with exit code (-?\d+)", details.message or "")):
        code = int(match[1])
    if str(details.status) == "STOPPED" or code is None or code < 0:
        return 1
    return int(code) or 1


class Follower:
    """Prints a job's log as it grows, and returns Ray's record of the job once it has ended.

    Ray's log stream does not end when the head dies: the socket just stays open. So the job's status is polled beside
    the stream, and the status decides.
    """

    def __init__(
        self, client: Any, job: str, out: Callable[[str], Any], *, gone_s: float = GONE_S, answer_s: float = ANSWER_S
    ) -> None:
        """Initialise the follower.

        Args:
            client: Ray's job client.
            job: id of the job.
            out: writes the log's text.
            gone_s: seconds without an answer after which the head counts as gone.
            answer_s: seconds to wait for one answer.
        """
        self.client, self.job, self.out = client, job, out
        self.gone_s, self.answer_s = gone_s, answer_s
        self.printed = 0

    def run(self) -> Any:
        """Follow until the job has ended, and return Ray's record of it.

        Raises:
            UserError: if there is no such job, or the head has not answered for `gone_s` seconds.
        """
        return asyncio.run(self._follow())

    async def _follow(self) -> Any:
        stream = asyncio.create_task(self._print_stream())
        try:
            details = await self._wait_for_end()
        except BaseException:
            stream.cancel()
            raise
        await asyncio.wait([stream], timeout=5)  # the last lines may still be in flight
        stream.cancel()
        self._print_rest()
        return details

    async def _wait_for_end(self) -> Any:
        answered = time.monotonic()
        while True:
            try:
                details = await asyncio.to_thread(bounded, lambda: self.client.get_job_info(self.job), self.answer_s)
                answered = time.monotonic()
                if details.status.is_terminal():
                    return details
            except (OSError, RuntimeError, NoAnswerError) as error:
                if "404" in first_line(str(error)):
                    raise UserError(
                        f"no job {self.job}: `python -m cluster jobs list` prints those there are"
                    ) from error
                if time.monotonic() - answered > self.gone_s:
                    raise UserError(
                        f"the head has not answered for {self.gone_s:g} s while job {self.job} ran; "
                        "when it is back, submit again: the phase resumes"
                    ) from error
            await asyncio.sleep(POLL_S)

    async def _print_stream(self) -> None:
        """Print the stream. A new connection begins at the log's start, so what was printed already is skipped."""
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

    def _print_rest(self) -> None:
        """Print from the whole log what the stream did not deliver."""
        try:
            whole = bounded(lambda: self.client.get_job_logs(self.job), self.answer_s)
        except (OSError, RuntimeError, NoAnswerError):
            return  # the job's status is known; a log that can no longer be read does not change it
        if len(whole) > self.printed:
            self.out(whole[self.printed :])
            self.printed = len(whole)


def write_out(text: str) -> None:
    """Write text to standard output at once, also if that is a file."""
    sys.stdout.write(text)
    sys.stdout.flush()
