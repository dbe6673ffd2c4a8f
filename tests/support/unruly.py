"""Functions that do what scoring must survive, for tests of bounded calls."""

import os
import signal
import time
from pathlib import Path
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
    if what == "stall":  # a number of times, each of which adds a character to a file
        file, times = Path(value[0]), value[1]
        stalled = file.read_text() if file.exists() else ""
        if len(stalled) < times:
            file.write_text(stalled + ".")
            time.sleep(60)
        return "awake"
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return None
