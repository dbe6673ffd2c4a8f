"""Say in one line that the head of a joined cluster does not answer, and in another that it does again.

A head that is stopped (SIGSTOP), hangs or is cut off closes no connection: Ray waits for it, and prints nothing. Here
it is asked over the network, so that it does not matter on which host it runs.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any

import psutil

from tune_spaces.ray_tune.processes import processes_of_ray

ASK_S = 2.0  # between the starts of two questions
ANSWER_S = 5.0  # for an answer to one
SILENT_S = 10.0  # without an answer, before it is reported
BUSY_S = 60.0  # the same while the process receives what it is asked: one with much to do answers late
# Ray's own loop of requests answers the first, gRPC's threads in the same process the second, however busy Ray is.
ALIVE, RECEIVES = "/ray.rpc.NodeInfoGcsService/CheckAlive", "/grpc.health.v1.Health/Check"
OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each channel
]


class Answer(Enum):
    """What comes back from a head."""

    YES = "it answers"
    BUSY = "the process receives requests, but Ray does not answer them"
    REFUSED = "nothing listens at its port"
    OTHER = "another error comes back: from the network, or from what is no head"
    NONE = "nothing comes back"


class Head:
    """Asks a head whether it answers.

    Attributes:
        address: HOST:PORT.
        session: name of the cluster's session, by which a process of the head is recognised; empty if unknown.
    """

    def __init__(self, address: str, session: str = "") -> None:
        self.address, self.session = address, session
        self._closed = False
        self._channel = self._connect()

    def ask(self, timeout_s: float = ANSWER_S) -> Answer:
        """Return what comes back within `timeout_s` seconds."""
        import grpc  # type: ignore[import-untyped]

        with suppress(ValueError, grpc.FutureCancelledError):  # the channel was closed meanwhile
            calls = [self._channel.unary_unary(method).future(b"", timeout=timeout_s) for method in (ALIVE, RECEIVES)]
            errors = [call.exception() for call in calls]
            # A head that asks for a token answers as well.
            answers = [e is None or e.code() == grpc.StatusCode.UNAUTHENTICATED for e in errors]
            if answers[0]:
                return Answer.YES
            if answers[1]:
                return Answer.BUSY
            # A connection on which nothing comes back may be dead without either side knowing.
            self._channel.close()
            if not self._closed:
                self._channel = self._connect()
            if "refused" in (errors[0].details() or ""):
                return Answer.REFUSED
            return Answer.NONE if errors[0].code() == grpc.StatusCode.DEADLINE_EXCEEDED else Answer.OTHER
        return Answer.NONE

    def close(self) -> None:
        """Cancel what is asked at present, and ask nothing more."""
        self._closed = True
        self._channel.close()

    def process(self) -> psutil.Process | None:
        """Return the head's process if it is on this machine."""
        return next(processes_of_ray("gcs_server", f"--session-name={self.session}"), None)

    def _connect(self) -> Any:
        from ray._private.grpc_utils import init_grpc_channel  # with the cluster's TLS and token

        return init_grpc_channel(self.address, OPTIONS)


class HeadWatch:
    """Notices that a head does not answer, and reports it once each time.

    Attributes:
        head: the head.
        reported: whether it was reported and has not answered since.
        silent_s: seconds in which nothing comes back before it is reported.
    """

    def __init__(
        self,
        head: Head,
        *,
        silent_s: float = SILENT_S,
        busy_s: float = BUSY_S,
        answer_s: float = ANSWER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start to watch.

        Args:
            head: the head.
            silent_s: seconds in which nothing comes back before it is reported.
            busy_s: the same while the process receives what it is asked.
            answer_s: seconds for an answer.
            clock: returns seconds.
        """
        self.reported = False
        self.head, self._clock = head, clock
        self.silent_s, self._busy_s, self._answer_s = silent_s, busy_s, answer_s
        self._failures, self._answered, self._received = 0, clock(), clock()

    def look(self) -> str | None:
        """Ask once, and return the line to print, if there is one."""
        asked = self._clock()
        answer = self.head.ask(self._answer_s)
        if answer is Answer.YES:
            silent_s, said = asked - self._answered, self.reported
            self._failures, self._answered, self._received, self.reported = 0, asked, asked, False
            return f"Ray's head at {self.head.address} answers again, after {silent_s:.0f} s" if said else None
        self._failures += 1
        if answer is Answer.BUSY:
            self._received = asked
        now = self._clock()
        silent = now - self._received >= self.silent_s or now - self._answered >= self._busy_s
        # One failure alone is also what this process sees if it was stopped itself for a while.
        if self.reported or not silent or self._failures < 2:
            return None
        self.reported = True
        return describe(self.head, answer)


def describe(head: Head, answer: Answer) -> str:
    """Return one line that says that a head does not answer, what to do, and what goes on meanwhile."""
    gone = answer is Answer.REFUSED
    state = "is gone, nothing listens there" if gone else "does not answer"
    lasts = "if none starts there within a minute" if gone else "if that lasts for some eight minutes"
    return (
        f"Ray's head at {head.address} {state}: {_remedy(head, gone)}. Running jobs go on, nothing new starts; "
        f"{lasts}, Ray's nodes end all jobs and with them this start, which `resume` continues"
    )


def _remedy(head: Head, gone: bool) -> str:
    host, _, port = head.address.rpartition(":")
    here = _is_here(host)
    process = head.process() if here else None
    if process is not None:
        with suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                return f"its process on this machine is stopped, `kill -CONT {process.pid}` lets it go on"
            return f"its process {process.pid} on this machine runs, and its log gcs_server.out may say what it does"
    if gone or here:
        return f"its log gcs_server.out on {host} may say why"
    return (
        f"check that its process gcs_server runs on {host} (`kill -CONT` lets a stopped one go on), and that port "
        f"{port} of {host} can be reached from here"
    )


def _is_here(host: str) -> bool:
    """Check whether a host is this machine."""
    with suppress(OSError), socket.socket() as unused:
        unused.bind((host, 0))
        return True
    return False


@contextmanager
def says_if_silent(watch: HeadWatch | None, say: Callable[[str], None]) -> Iterator[None]:
    """Say while the body runs that a head does not answer, and that it does again.

    A head that does not answer the first question is not watched: the Ray there may know none of the questions.

    Args:
        watch: notices it; None to watch no head.
        say: takes a line.
    """
    if watch is None:
        yield
        return
    ended = threading.Event()

    def ask() -> None:
        if watch.head.ask() is not Answer.YES:
            return
        wait = 0.0
        while not ended.wait(wait):
            asked = time.monotonic()
            line = watch.look()
            if ended.is_set():
                return
            if line is not None:
                say(line)
            wait = max(0.1, min(ASK_S, watch.silent_s) + asked - time.monotonic())

    thread = threading.Thread(target=ask, name="Ray's head", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        watch.head.close()
        thread.join()
