"""A repeated action comes while the body runs, and neither before nor after."""

import threading

import pytest

from bridge_common.threads import repeating

SOON = 0.001
NAME = "test-repeating"
PATIENCE = 60.0  # seconds; only a defect waits so long


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_it_comes_again_and_again_until_the_body_ends() -> None:
    calls = threading.Semaphore(0)
    count: list[int] = []

    def action() -> None:
        count.append(1)
        calls.release()

    with repeating(SOON, action, NAME):
        assert all(calls.acquire(timeout=PATIENCE) for _ in range(5))
    assert threads() == []
    assert len(count) >= 5


def test_the_first_call_waits_for_the_interval_and_the_end_does_not() -> None:
    calls: list[int] = []
    with repeating(3_600, lambda: calls.append(1), NAME):
        assert len(threads()) == 1
        assert threads()[0].daemon
    assert (calls, threads()) == ([], [])


def test_a_call_under_way_is_waited_for() -> None:
    begun, finished = threading.Event(), threading.Event()

    def action() -> None:
        begun.set()
        threading.Event().wait(0.2)
        finished.set()

    with repeating(SOON, action, NAME):
        assert begun.wait(PATIENCE)
    assert finished.is_set()


def test_an_action_that_says_so_is_not_called_again() -> None:
    calls: list[int] = []

    def action() -> bool:
        calls.append(1)
        return len(calls) == 2

    with repeating(SOON, action, NAME):
        for thread in threads():
            thread.join(PATIENCE)
        assert threads() == []
    assert len(calls) == 2


def test_an_error_of_the_body_ends_the_thread_and_is_passed_on() -> None:
    with pytest.raises(KeyError), repeating(SOON, lambda: None, NAME):
        raise KeyError
    assert threads() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_the_action_does_not_reach_the_body() -> None:
    calls: list[int] = []

    def action() -> None:
        calls.append(1)
        raise OSError

    with repeating(SOON, action, NAME):
        for thread in threads():
            thread.join(PATIENCE)
        assert threads() == []
    assert len(calls) == 1
