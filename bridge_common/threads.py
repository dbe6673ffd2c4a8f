"""Two uses of a background thread: repeat an action while a block runs, and limit the time of a call that may hang."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


@contextmanager
def repeating(seconds: float, action: Callable[[], bool | None], name: str) -> Iterator[None]:
    """Call an action in a thread, again and again, while the body of the `with` statement runs.

    The first call comes after the first interval. When the body ends, a call in progress is waited for, and no other
    follows; what happened since the last call is left to the caller.

    Args:
        seconds: time between the end of a call and the start of the next.
        action: what to call; it returns True if it need not be called again. An exception ends the thread, with a
            traceback, but not the body.
        name: name of the thread.
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
    """A call did not return in time."""


def bounded(call: Callable[[], Result], timeout_s: float) -> Result:
    """Return the result of a call, or raise its exception, within a time limit.

    A call that hangs, such as a read from a dead file server, cannot be interrupted; it stays in a daemon thread.

    Args:
        call: a function without arguments.
        timeout_s: time limit in seconds.

    Raises:
        NoAnswerError: the call did not return in time.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise NoAnswerError(f"no answer in {timeout_s:g} s")
    return results[0]
