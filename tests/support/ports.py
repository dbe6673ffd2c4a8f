"""Ports for servers that a test starts."""

import contextlib
import os
import socket

_given: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return different ports that nothing listens on.

    They lie below the range that the kernel hands out to clients, and start at another place in every process, so that
    tests that run beside each other do not take the same. None is given twice in a process, since servers listen only
    later: the last of Ray's own when its head has answered for seconds.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for number, one in enumerate(sockets):
            for port in range(20000 + (os.getpid() * 7 + number * 101) % 9000, 32000):
                with contextlib.suppress(OSError):
                    if port not in _given:
                        one.bind(("", port))
                        break
        ports = [one.getsockname()[1] for one in sockets]
    _given.update(ports)
    return ports
