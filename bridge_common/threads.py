"""Looking again and again while something else runs: reports, records and stop requests all follow files on disk."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Found = TypeVar("Found")


@contextmanager
def repeating(seconds: float, action: Callable[[], bool | None], name: str) -> Iterator[None]:
    """Call an action in a thread, once every so many seconds, while the body runs.

    The first call comes after the first interval. A call that is under way when the body ends is waited for, so no two
    calls overlap and none comes afterwards; what the action would still have found is for the caller to look at then.

    Args:
        seconds: between the end of a call and the beginning of the next.
        action: what to do; returns True where it need not be called again. What it raises ends the thread, with a
            traceback, and not the body.
        name: of the thread.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            if action():
                return

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class NoAnswerError(Exception):
    """A probe did not come back within its bound."""


def bounded(probe: Callable[[], Found], timeout_s: float) -> Found:
    """The probe's value, or its exception, or `NoAnswerError` after `timeout_s`.

    A probe that hangs (a dead file server cannot be interrupted) is left behind in a daemon thread.

    Raises:
        NoAnswerError: nothing came back in time.
    """
    outcome: list[Found] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(probe())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if raised:
        raise raised[0]
    if not outcome:
        raise NoAnswerError(f"no answer in {timeout_s:g} s")
    return outcome[0]
