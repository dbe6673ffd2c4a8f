"""A head that does not answer is noticed: a real head without nodes, asked over the network."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from tests.support.ports import free_port
from tests.support.waiting import wait_for
from tune_spaces.ray_tune import connect
from tune_spaces.ray_tune.connect import require_ray_at
from tune_spaces.ray_tune.silent_head import Answer, Head, HeadWatch, describe, says_if_silent

SOON = {"silent_s": 0.5, "busy_s": 60.0, "answer_s": 0.3}
ATTACH, DETACH, ALL_THREADS = 16, 17, 0x40000000  # ptrace(2), waitpid(2)


class Gcs:
    """A running head."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        from ray._private.services import GCS_SERVER_EXECUTABLE

        self.port, self.session = free_port(), folder.name
        settings = {
            "log_dir": folder,
            "gcs_server_port": self.port,
            "metrics-agent-port": 0,
            "node-ip-address": address,
            "session-name": self.session,
        }
        command = [GCS_SERVER_EXECUTABLE, *(f"--{name}={value}" for name, value in settings.items())]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.address = f"{address}:{self.port}"
        wait_for(lambda: self.head().ask(1) is Answer.YES, 20, "it answers")

    def head(self) -> Head:
        return Head(self.address, self.session)

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    @contextmanager
    def loop_stopped(self) -> Iterator[None]:
        """Stop the thread that answers requests, as if it had more to do than it can."""
        threads = Path(f"/proc/{self.process.pid}/task")
        loops = [
            int(each.name) for each in threads.iterdir() if (each / "comm").read_text().strip() == "node_manager_io"
        ]
        libc = ctypes.CDLL(None)
        for thread in loops:
            if libc.ptrace(ATTACH, thread, 0, 0):
                pytest.skip("this machine lets no process trace another")
            os.waitpid(thread, ALL_THREADS)
        try:
            yield
        finally:
            for thread in loops:
                libc.ptrace(DETACH, thread, 0, 0)


@pytest.fixture
def gcs(tmp_path: Path) -> Iterator[Gcs]:
    running = Gcs(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


def test_a_stopped_head_is_said_once_each_time_and_that_it_answers_again(gcs: Gcs) -> None:
    said: list[str] = []
    watch = HeadWatch(gcs.head(), **SOON)
    with says_if_silent(watch, said.append):
        wait_for(lambda: watch.look() is None, 10, "it answers")
        for times in (1, 2):
            gcs.stop()
            wait_for(lambda times=times: len(said) == 2 * times - 1, 10, "it is said")
            assert said[-1].startswith(
                f"Ray's head at {gcs.address} does not answer: its process on this machine is stopped, "
                f"`kill -CONT {gcs.process.pid}` lets it go on. Running jobs go on, nothing new starts; "
            )
            assert watch.reported
            gcs.go_on()
            wait_for(lambda times=times: len(said) == 2 * times, 10, "it is said that it answers")
            assert said[-1].startswith(f"Ray's head at {gcs.address} answers again, after ")
            assert not watch.reported
    assert len(said) == 4


def test_a_head_with_much_to_do_is_not_said_to_be_silent_before_it_hangs_for_long(gcs: Gcs) -> None:
    head = gcs.head()
    watch, patient = HeadWatch(head, **{**SOON, "busy_s": 1.5}), HeadWatch(head, **SOON)
    with gcs.loop_stopped():
        assert head.ask(0.5) is Answer.BUSY
        for _ in range(4):
            assert patient.look() is None
        line = wait_for(watch.look, 10, "it is said at last")
    assert f"does not answer: its process {gcs.process.pid} on this machine runs, and its log" in line
    assert wait_for(watch.look, 10, "it answers").startswith(f"Ray's head at {gcs.address} answers again")


def test_a_head_that_died_is_said_to_be_gone(gcs: Gcs) -> None:
    watch = HeadWatch(gcs.head(), **SOON)
    assert watch.look() is None
    gcs.process.kill()
    gcs.process.wait()
    line = wait_for(watch.look, 10, "it is said")
    assert line.startswith(
        f"Ray's head at {gcs.address} is gone, nothing listens there: its log gcs_server.out on 127."
    )


def test_one_unanswered_question_is_not_enough(gcs: Gcs) -> None:
    """This process, not the head, may have been stopped for a while."""
    now = [0.0]
    watch = HeadWatch(gcs.head(), **SOON, clock=lambda: now[0])
    gcs.stop()
    now[0] = 1000.0
    assert watch.look() is None
    gcs.go_on()
    wait_for(lambda: gcs.head().ask(1) is Answer.YES, 10, "it answers")
    assert watch.look() is None


def test_what_never_answered_is_not_watched(gcs: Gcs) -> None:
    gcs.stop()
    said: list[str] = []
    head = gcs.head()
    with says_if_silent(HeadWatch(head, **SOON), said.append):
        wait_for(lambda: head.ask(0.1) is Answer.NONE, 10, "it does not answer")
    assert not said


def test_the_remedy_for_a_head_elsewhere_names_what_to_check_there() -> None:
    line = describe(Head("203.0.113.1:6379", "none"), Answer.NONE)
    assert "check that its process gcs_server runs on 203.0.113.1 (`kill -CONT` lets a stopped one go on)" in line
    assert "port 6379 of 203.0.113.1 can be reached from here" in line


def test_a_start_at_a_stopped_head_says_so(gcs: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "GCS_TIMEOUT_S", 2.0)
    monkeypatch.setattr(connect, "TCP_TIMEOUT_S", 0.5)
    gcs.stop()
    with pytest.raises(UserError, match=rf"what listens at {gcs.address} does not answer: if it is a Ray head, "):
        require_ray_at(gcs.address)
