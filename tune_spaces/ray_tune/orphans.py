"""End the processes of a Ray that was interrupted while it started.

A raylet starts agents of its own. If it is killed before they know it, as Ray does on SIGTERM, they look for it for a
minute and more.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

_SET_CHILD_SUBREAPER = 36  # prctl(2): children of a dead child become this process's own, not init's


@contextmanager
def ended_if_interrupted() -> Iterator[None]:
    """Kill the processes of Ray that the block has started, if it raises."""
    own = psutil.Process()
    before = set(own.children(recursive=True))
    _adopt(True)
    try:
        yield
    except BaseException:
        started = [child for child in own.children(recursive=True) if child not in before and _is_rays(child)]
        for child in started:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(started, timeout=5)
        raise
    finally:
        _adopt(False)


def _adopt(orphans: bool) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0)


def _is_rays(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any("/ray/" in part or part.startswith("ray") for part in process.cmdline())
    return False
