"""Ports for servers that a test starts."""

import contextlib
import os
import socket

FIRST, LAST, BLOCKS = 20_000, 32_000, 8
_given: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return different ports that nothing listens on.

    They lie below the range that the kernel hands out to clients. None is given twice in a process, since servers
    listen only later: the last of Ray's own when its head has answered for seconds. For the same reason each worker of
    pytest-xdist has a block of its own, in which processes start at different places.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            for port in _block():
                with contextlib.suppress(OSError):
                    if port not in _given:
                        one.bind(("", port))
                        break
        ports = [one.getsockname()[1] for one in sockets]
    _given.update(ports)
    return ports


def _block() -> list[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % BLOCKS
    size = (LAST - FIRST) // BLOCKS
    start = os.getpid() * 7 % size
    return [FIRST + worker * size + (start + number) % size for number in range(size)]
