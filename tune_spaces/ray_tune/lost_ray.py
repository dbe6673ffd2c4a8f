"""End a start in one line when a process of its local Ray dies.

Ray's own code then ends this process within a second or two, after printing the logs of what died and nothing else.
"""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from tune_spaces.ray_tune.interrupts import Interrupts

PROCESSES = {"raylet": "raylet", "gcs_server": "head"}


@contextmanager
def ends_with_local_ray(interrupts: Interrupts, record: Callable[[str], None]) -> Iterator[None]:
    """While the body runs, end this process in one line if the raylet or the head that it has started dies.

    A cluster that was joined is left out: its processes are no children of this one.

    Args:
        interrupts: says what is left to do; without `ends_process` nothing is watched.
        record: takes the reason for the campaign's record.
    """
    watched = _started() if interrupts.ends_process else {}
    if not watched:
        yield
        return
    ended, end = os.pipe()

    def watch() -> None:
        ready, _, _ = select.select([ended, *watched], [], [])
        if ended in ready:
            return
        reason = f"Ray's {watched[ready[0]]} on this machine died"
        for child in psutil.Process().children(recursive=True):  # before one of them tells at length
            with suppress(psutil.NoSuchProcess):
                child.kill()
        try:
            with suppress(OSError):  # a storage that is away keeps no record; the line is said all the same
                record(reason)
            print(f"{reason} {interrupts.describe()}", flush=True)
        finally:
            os._exit(1)

    thread = threading.Thread(target=watch, name="lost Ray", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(end, b".")
        thread.join()
        for handle in (ended, end, *watched):
            os.close(handle)


def _started() -> dict[int, str]:
    """Return handles of this process's children that a local Ray cannot do without, with what each of them is."""
    if not hasattr(os, "pidfd_open"):
        return {}
    found = {}
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, OSError):
            if (name := child.name()) in PROCESSES:
                found[os.pidfd_open(child.pid)] = PROCESSES[name]
    return found
