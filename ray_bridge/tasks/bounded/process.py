"""Answer calls of one function within limits of CPU time and memory; `pool` starts this as a process.

    python -m ray_bridge.tasks.bounded.process MODULE:FUNCTION SECONDS BYTES

The process imports the function's module, calls the function once on the module's `WARM_UP`, and forks. The child
answers requests from standard input on standard output. The kernel ends it when a call has used its CPU time, whatever
C code it is in; no Python signal handler could. The parent then answers in its place and forks again, which takes
milliseconds where a new process would import everything anew. Both end when standard input does.
"""

import importlib
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any

CALLS_A_CHILD = 512
"""Calls after which a child is replaced, so that what libraries cache and leak stays small."""

_LENGTH = struct.Struct("!I")
_ENDED, _WORN, _NO_MEMORY = 0, 3, 4  # exit codes of a child


def send(descriptor: int, value: Any) -> None:
    """Write a message: its length in four bytes, then JSON."""
    data = json.dumps(value).encode()
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int) -> Any:
    """Read a message.

    Raises:
        EOFError: when the other side is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(descriptor, _LENGTH.size))
    return json.loads(_exactly(descriptor, length))


def _exactly(descriptor: int, count: int) -> bytes:
    parts, missing = [], count
    while missing:
        part = os.read(descriptor, min(missing, 1 << 16))
        if not part:
            raise EOFError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def main(reference: str, seconds: float, memory: int) -> None:
    """Serve calls of `MODULE:FUNCTION`, each with at most `seconds` of CPU time and `memory` bytes of address space."""
    module_name, _, name = reference.partition(":")
    module = importlib.import_module(module_name)
    function = getattr(module, name)
    function(*module.WARM_UP)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    send(1, {"ready": True})
    while True:
        child = os.fork()
        if child == 0:
            os._exit(_serve(function, seconds, memory))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == _ENDED:
            return
        if code != _WORN:
            send(1, {"stopped": _reason(code, seconds, memory)})


def _serve(function: Callable[..., Any], seconds: float, memory: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for _ in range(CALLS_A_CHILD):
        try:
            arguments = receive(0)
        except EOFError:
            return _ENDED
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer = {"value": function(*arguments)}
        except MemoryError:
            return _NO_MEMORY
        except Exception as error:  # a defect of one answer must not end the evaluation of a split
            answer = {"stopped": f"{type(error).__name__}"}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        send(1, answer)
    return _WORN


def _reason(code: int, seconds: float, memory: int) -> str:
    if code == -signal.SIGPROF:
        return f"more than {seconds:g} s of CPU time"
    if code == _NO_MEMORY:
        return f"more than {memory / 1e9:g} GB of memory"
    return f"ended with {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
