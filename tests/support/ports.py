"""Ports for servers of a test's own, so that nothing else on the machine is in the way."""

import contextlib
import os
import socket


def free_ports(count: int) -> list[int]:
    """Free ports, held together while they are chosen, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for number, one in enumerate(sockets):
            for port in range(20000 + (os.getpid() * 7 + number * 101) % 9000, 32000):
                with contextlib.suppress(OSError):
                    one.bind(("", port))
                    break
        return [one.getsockname()[1] for one in sockets]
