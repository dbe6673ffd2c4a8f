"""Functions that do what scoring must survive, for tests of bounded calls."""

import os
import signal
from typing import Any

WARM_UP = ("echo", 1)


def do(what: str, value: Any = None) -> Any:
    """Return, fail, hang in C, take memory, crash or sleep, as asked."""
    if what == "echo":
        return value
    if what == "pid":
        return os.getpid()
    if what == "fail":
        raise RuntimeError("failed")
    if what == "hang":
        return 9 ** (9 ** (9 + value))  # one C call, which no signal handler interrupts
    if what == "hoard":
        return len(bytearray(value))
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return None
