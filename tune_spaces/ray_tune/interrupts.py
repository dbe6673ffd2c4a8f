"""End a start of a campaign within seconds of SIGTERM or SIGINT: jobs write a checkpoint, everything else is ended.

Slurm, `ray job stop`, Kubernetes and terminals ask by a signal and kill what still runs soon afterwards.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

import psutil

WITHIN_S = 13.0  # from the signal to the end of the process, even if something still hangs then
DESCRIBE_S = 2.0  # of these, to read from the storage what is left to do
CHECKPOINT_S = 6.0  # of these, for running jobs to write a checkpoint
NOTICED_S = 75.0  # the same after a scheduler's notice that it will end the process in some two minutes
NOTICE = signal.SIGUSR2  # SIGUSR1 is taken: Tune ends an experiment on it, without time for a checkpoint
SIGNALS = (signal.SIGTERM, signal.SIGINT, NOTICE)


class Interrupted(KeyboardInterrupt):
    """The process was asked to end by a signal. No handler of errors takes it for one.

    Where it interrupts a call of Ray, Ray raises a plain KeyboardInterrupt instead.
    """


class Interrupts:
    """Receives SIGTERM, SIGINT, and SIGUSR2, by which a Slurm job says that a time limit is near.

    Attributes:
        ends_process: whether the process is to end: then what still runs is ended too, within `WITHIN_S`.
        requested: name of the first signal that came, such as SIGTERM; None so far.
        noticed: whether SIGUSR2 came while a signal was awaited: what runs has `NOTICED_S` for a checkpoint, and the
            process then goes on to its end.
        hurry: whether another signal came, so that nothing is waited for.
        describe: returns what to print about the end, after the name of the signal.
    """

    def __init__(self, *, ends_process: bool) -> None:
        self.ends_process = ends_process
        self.requested: str | None = None
        self.noticed = False
        self.hurry = False
        self.describe: Callable[[], str] = lambda: "before anything ran"
        self._waiting = not ends_process
        self._leave = False

    def line(self) -> str:
        """Return what happened, in one line."""
        return f"stopped by {self.requested} {self.describe()}"

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Raise nothing on a signal while the body runs: the body checks `requested` and ends by itself."""
        before, self._waiting = self._waiting, True
        try:
            yield
        finally:
            self._waiting = before

    def leave(self) -> None:
        """Raise `Interrupted` in the main thread; called from another thread when it was waited long enough."""
        self._leave = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal.

        Raises:
            Interrupted: for the first one, unless it is awaited, and when `leave` says so.
        """
        if self._leave:
            self._leave = False
            raise Interrupted(self.requested)
        if self.requested is not None:
            self.hurry = True
            return
        if number == NOTICE and self._waiting:
            self.noticed = True
            return
        self.requested = signal.Signals(number).name
        if not self._waiting:
            raise Interrupted(self.requested)

    @contextmanager
    def ends_in_any_case(self) -> Iterator[None]:
        """End the process `WITHIN_S` after a signal that came during the body, whatever its threads do then.

        A handler written in Python runs when the main thread is back in Python, and a call of Ray or of a file system
        that hangs never is. The interpreter itself writes each signal's number to a pipe at once.
        """
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._end_on_signal, args=(reader,), name="end", daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(writer)

    def _end_on_signal(self, reader: int) -> None:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if number[0] in (signal.SIGTERM, signal.SIGINT) or (number[0] == NOTICE and not self._waiting):
                    self._end_in_any_case(signal.Signals(number[0]).name)

    def _end_in_any_case(self, name: str) -> None:
        lines = [f"stopped by {name}"]

        def describe() -> None:
            with suppress(Exception):  # a file that cannot be read
                lines.append(f"stopped by {name} {self.describe()}")

        time.sleep(WITHIN_S - DESCRIBE_S)
        threading.Thread(target=describe, name="describe", daemon=True).start()  # it may hang, as its storage does
        time.sleep(DESCRIBE_S)
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        with suppress(Exception):  # a broken pipe
            print(lines[-1], flush=True)
        os._exit(1)


_installed: list[Interrupts] = []


def _forget_in_child() -> None:
    """Cut a forked process off from the pipe: a signal to it would end its parent."""
    if _installed:
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def interruptible(*, ends_process: bool) -> Iterator[Interrupts]:
    """Receive `SIGNALS` while the body runs, unless that is done already, which then is what is yielded.

    In a thread other than the main one, which gets no signals, nothing changes.

    Args:
        ends_process: as in `Interrupts`.
    """
    if _installed:
        yield _installed[-1]
        return
    interrupts = Interrupts(ends_process=ends_process)
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts.receive) for number in SIGNALS}
    _installed.append(interrupts)
    try:
        with interrupts.ends_in_any_case() if ends_process else nullcontext():
            yield interrupts
    finally:
        _installed.remove(interrupts)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def despite_rays_handler() -> Iterator[None]:
    """Keep the handler of SIGTERM that `ray.init`, the body, replaces by one that exits without a word.

    Raises:
        Interrupted: if the signal came during the body.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    except SystemExit:
        if _installed and main:
            _installed[-1].receive(signal.SIGTERM)
            raise Interrupted(_installed[-1].requested) from None
        raise
    finally:
        if _installed and main and "ray" in sys.modules:
            signal.signal(signal.SIGTERM, before)
