"""Repeated actions are called while the body runs and never after it; bounded calls end in time."""

import threading

import pytest

from bridge_common.threads import NoAnswerError, bounded, repeating

INTERVAL = 0.001  # seconds
NAME = "test-repeating"
LIMIT = 60.0  # seconds; only a defect takes so long


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_the_action_is_repeated_until_the_body_ends() -> None:
    calls = threading.Semaphore(0)
    count: list[int] = []

    def action() -> None:
        count.append(1)
        calls.release()

    with repeating(INTERVAL, action, NAME):
        assert all(calls.acquire(timeout=LIMIT) for _ in range(5))
    assert threads() == []
    assert len(count) >= 5


def test_the_first_call_waits_for_the_interval_and_the_end_does_not() -> None:
    calls: list[int] = []
    with repeating(3_600, lambda: calls.append(1), NAME):
        assert len(threads()) == 1
        assert threads()[0].daemon
    assert (calls, threads()) == ([], [])


def test_a_call_in_progress_is_waited_for() -> None:
    begun, finished = threading.Event(), threading.Event()

    def action() -> None:
        begun.set()
        threading.Event().wait(0.2)
        finished.set()

    with repeating(INTERVAL, action, NAME):
        assert begun.wait(LIMIT)
    assert finished.is_set()


def test_an_action_that_returns_true_is_not_called_again() -> None:
    calls: list[int] = []

    def action() -> bool:
        calls.append(1)
        return len(calls) == 2

    with repeating(INTERVAL, action, NAME):
        for thread in threads():
            thread.join(LIMIT)
        assert threads() == []
    assert len(calls) == 2


def test_an_error_of_the_body_ends_the_thread_and_is_raised() -> None:
    with pytest.raises(KeyError), repeating(INTERVAL, lambda: None, NAME):
        raise KeyError
    assert threads() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_the_action_does_not_reach_the_body() -> None:
    calls: list[int] = []

    def action() -> None:
        calls.append(1)
        raise OSError

    with repeating(INTERVAL, action, NAME):
        for thread in threads():
            thread.join(LIMIT)
        assert threads() == []
    assert len(calls) == 1


def test_a_bounded_call_gives_its_result_or_its_error() -> None:
    assert bounded(lambda: 42, LIMIT) == 42
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 / 0, LIMIT)


def test_a_bounded_call_that_hangs_ends_in_time() -> None:
    release = threading.Event()
    with pytest.raises(NoAnswerError, match=r"no answer in 0\.05 s"):
        bounded(release.wait, 0.05)
    release.set()
