"""Calls in killable processes: what hangs, hoards or crashes is stopped, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from ray_bridge.tasks.bounded.pool import BoundedFunction, Outcome
from ray_bridge.tasks.bounded.process import CALLS_A_CHILD
from tests.support.waiting import wait_for

REFERENCE = "tests.support.unruly:do"


OTHERS: set[int] = set()  # processes of other tests of this session, which score too


@pytest.fixture
def call() -> Iterator[BoundedFunction]:
    OTHERS.clear()
    OTHERS.update(process.pid for process in scoring_processes())
    function = BoundedFunction(REFERENCE, seconds=0.3, memory=200_000_000)
    yield function
    function.close()


def scoring_processes() -> list[psutil.Process]:
    """Children and grandchildren of this process that serve bounded calls, zombies included."""
    children = [p for p in psutil.Process().children(recursive=True) if p.pid not in OTHERS]
    return [p for p in children if p.status() == "zombie" or _serves(p)]


def _serves(process: psutil.Process) -> bool:
    try:
        return "ray_bridge.tasks.bounded.process" in process.cmdline()
    except psutil.Error:
        return False


def cpu_seconds() -> float:
    """CPU time of the scoring processes and of their children that ended."""
    times = [process.cpu_times() for process in scoring_processes()]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def test_a_value_comes_back_and_the_process_stays_warm(call: BoundedFunction) -> None:
    assert call("echo", {"a": [1, "√", None]}) == Outcome(value={"a": [1, "√", None]})
    assert call("pid").value == call("pid").value


@pytest.mark.parametrize(
    ("what", "value", "why"),
    [
        ("hang", 0, "more than 0.3 s of CPU time"),
        ("hoard", 10**9, "more than 0.2 GB of memory"),
        ("crash", None, "ended with SIGSEGV"),
        ("fail", None, "RuntimeError"),
    ],
)
def test_what_does_not_return_is_stopped_and_the_next_call_works(
    call: BoundedFunction, what: str, value: object, why: str
) -> None:
    call("echo", 1)
    before = cpu_seconds()
    for _ in range(2):
        assert call(what, value) == Outcome(stopped=why)
        assert call("echo", 2) == Outcome(value=2)
    assert cpu_seconds() - before < 2 * (call.seconds + 0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("times", "outcome"),
    [(1, Outcome(value="awake")), (2, Outcome(stopped="no answer in 1 s, twice")), (0, Outcome(value="awake"))],
)
def test_a_call_that_stalls_is_made_once_more(tmp_path: Path, times: int, outcome: Outcome) -> None:
    function = BoundedFunction(REFERENCE, seconds=0.3, memory=200_000_000, patience=1)
    file = tmp_path / "stalls"
    assert function("stall", [str(file), times]) == outcome
    function.close()


def test_a_message_of_a_megabyte_passes(call: BoundedFunction) -> None:
    text = "€" * 350_000
    assert call("echo", text).value == text


def test_children_are_replaced_before_they_grow(call: BoundedFunction) -> None:
    pids = {call("pid").value for _ in range(CALLS_A_CHILD + 1)}
    assert len(pids) == 2


def test_threads_share_as_many_processes_as_they_need(call: BoundedFunction) -> None:
    with ThreadPoolExecutor(4) as threads:
        values = list(threads.map(lambda n: call("echo", n).value, range(200)))
    assert values == list(range(200))
    assert len(scoring_processes()) <= 2 * 4


def test_closing_leaves_no_process_and_no_zombie(call: BoundedFunction) -> None:
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda n: call("hang" if n % 4 == 0 else "echo", 0), range(12)))
    call.close()
    assert scoring_processes() == []
    assert call("echo", 3) == Outcome(value=3)  # and it opens again


def test_processes_killed_from_outside_are_replaced(call: BoundedFunction) -> None:
    call("echo", 1)
    for process in scoring_processes():
        process.send_signal(signal.SIGKILL)
    assert call("echo", 2) == Outcome(value=2)


def test_a_fork_has_processes_of_its_own(call: BoundedFunction) -> None:
    mine = call("pid").value
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(call("pid").value).encode())
        call.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 20)) != mine
    assert call("pid").value == mine


def test_a_module_that_cannot_be_imported_is_an_error_at_once() -> None:
    with pytest.raises(RuntimeError, match="no_such_module:do did not start"):
        BoundedFunction("no_such_module:do")()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None])
def test_nothing_outlives_the_caller(number: int | None) -> None:
    code = f"""
        import sys, time
        from ray_bridge.tasks.bounded.pool import BoundedFunction
        call = BoundedFunction({REFERENCE!r}, seconds=5)
        print(call("pid").value, flush=True)
        if len(sys.argv) > 1:
            time.sleep(60)
    """
    arguments = [] if number is None else ["wait"]
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        server = int(caller.stdout.readline())
        if number is not None:
            caller.send_signal(number)
        caller.wait(20)
    wait_for(lambda: not psutil.pid_exists(server), 10)


def test_a_call_that_hangs_is_ended_though_its_caller_is_gone() -> None:
    code = f"""
        import os, threading, time
        from ray_bridge.tasks.bounded.pool import BoundedFunction
        call = BoundedFunction({REFERENCE!r}, seconds=1)
        print(call("pid").value, flush=True)
        threading.Thread(target=call, args=("hang", 0), daemon=True).start()
        time.sleep(0.3)
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=False)
    wait_for(lambda: not psutil.pid_exists(int(done.stdout)), 20)
