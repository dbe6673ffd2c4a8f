"""Warm processes that call one function within limits, shared by the threads of this process.

A process is started when a call finds none idle, so there are never more than simultaneous calls. Later calls reuse it
and cost a message more (0.3 ms). Nothing is shared with forks of this process, and nothing outlives it: scoring
processes end when their standard input does, however this process ended.
"""

import atexit
import os
import select
import signal
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from typing import Any

from ray_bridge.tasks.bounded.process import receive, send

SECONDS = 0.9
"""CPU time of one call."""

MEMORY = 900_000_000
"""Bytes of address space of one process."""

PATIENCE = 60.0
"""Seconds by the clock for a call or a start, which only a stalled machine needs. CPU time is the bound, so that a busy
machine changes no outcome; a call without an answer is made once more."""

_GRACE = 2.0  # seconds for an idle process to end by itself


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a call.

    Attributes:
        value: what the function returned; None if it was stopped.
        stopped: why it was stopped, None if it returned.
    """

    value: Any = None
    stopped: str | None = None


class BoundedFunction:
    """A function that is called in other processes, with bounds on time and memory. Safe to use from many threads.

    Args:
        reference: `MODULE:FUNCTION`. Arguments and results are JSON values; the module has a `WARM_UP`, the arguments
            of a first call that loads what later calls need.
        seconds: CPU time of one call.
        memory: bytes of address space of one process.
        patience: seconds by the clock for a call.
    """

    def __init__(
        self, reference: str, *, seconds: float = SECONDS, memory: int = MEMORY, patience: float = PATIENCE
    ) -> None:
        self.reference, self.seconds, self.memory, self.patience = reference, seconds, memory, patience
        self._idle: list[_Process] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        _FUNCTIONS.add(self)

    def __call__(self, *arguments: Any) -> Outcome:
        """Call the function; the outcome says if the call was stopped."""
        why = ""
        for _ in range(2):
            process = self._take()
            try:
                answer = process.ask(arguments)
            except (OSError, EOFError):  # killed from outside, perhaps long ago: so may all idle ones be
                process.end()
                self.close()
                why = "its process was killed from outside, twice"
                continue
            except BaseException:
                process.end()
                raise
            if answer is None:
                process.end()
                why = f"no answer in {self.patience:g} s, twice"
                continue
            with self._lock:
                self._idle.append(process)
            return Outcome(value=answer.get("value"), stopped=answer.get("stopped"))
        return Outcome(stopped=why)

    def close(self) -> None:
        """End all idle processes; a later call starts a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        if self._owner == os.getpid():
            for process in idle:
                process.end()

    def _take(self) -> "_Process":
        with self._lock:
            if self._owner != os.getpid():  # a fork must not write into its parent's pipes
                self._idle, self._owner = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        return self._start()

    def _start(self) -> "_Process":
        return _Process(self.reference, self.seconds, self.memory, self.patience)


_FUNCTIONS: "weakref.WeakSet[BoundedFunction]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for function in list(_FUNCTIONS):
        function.close()


class _Process:
    """One scoring process with its child, in a process group of their own."""

    def __init__(self, reference: str, seconds: float, memory: int, patience: float) -> None:
        self._patience = patience
        # Hashes order sympy's sets: the same seed everywhere makes the same value on every worker.
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray_bridge.tasks.bounded.process", reference, str(seconds), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._write, self._read = self._process.stdin.fileno(), self._process.stdout.fileno()
        try:
            started = self._wait(PATIENCE)
        except EOFError:
            started = None
        if started is None:
            self.end()
            raise RuntimeError(f"the process that calls {reference} did not start; its error is above")

    def ask(self, arguments: Any) -> dict[str, Any] | None:
        """Return the answer to a call, or None if there is none in time."""
        send(self._write, arguments)
        return self._wait(self._patience)

    def _wait(self, patience: float) -> dict[str, Any] | None:
        poll = select.poll()  # takes any descriptor, where select refuses those above 1,023
        poll.register(self._read, select.POLLIN)
        return receive(self._read) if poll.poll(patience * 1000) else None

    def end(self) -> None:
        """End the process and its child, and reap it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()
