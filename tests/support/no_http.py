"""A server that speaks another protocol than HTTP/1, as what listens at a mistaken port does."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GRPC = b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x04\x00\x40\x00\x00\n"  # a settings frame, as Ray's processes begin


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(1024)
        self.request.sendall(GRPC)


@contextmanager
def speaks_no_http() -> Iterator[str]:
    """Yield the address of such a server."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
