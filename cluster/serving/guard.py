"""Check the token of a request and bound its size, before the application sees it."""

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cluster.serving.errors import ApiError, too_long
from cluster.serving.settings import LARGEST_BODY, token_digest

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/", "/health"})
"""Need no token: the page, which asks for one and holds nothing else, and the health check."""
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """An ASGI application around another that wants a token, or a local name of the server, and bounds bodies.

    Without a token only requests to a local name are answered: a page of another site can make a browser ask this
    machine under a name of its own (DNS rebinding), but not under these.

    Args:
        app: the application.
        digest: of the token, `token_digest(token)`; None for a server without one.
        refused: is told path and status of each request that is not passed on.
    """

    def __init__(self, app: App, digest: str | None, refused: Callable[[str, int], None]) -> None:
        self.app, self.digest, self.refused = app, digest, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check(scope["path"], headers)
            body = await _read(headers, receive)
        except ApiError as error:
            self.refused(scope["path"], error.status)
            await _refuse(error, send)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> MutableMapping[str, Any]:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)

    def _check(self, path: str, headers: dict[str, str]) -> None:
        if self.digest is None:
            name, _, port = headers.get("host", "").rpartition(":")
            if (name if port.isdigit() else headers.get("host", "")).lower() not in LOCAL_HOSTS:
                raise ApiError(403, "without a token the server answers only as localhost or 127.0.0.1", "foreign_host")
            return
        if path in OPEN_PATHS:
            return
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(token_digest(shown.strip()), self.digest)  # digests: equally long, constant time
        if not same or scheme.lower() != "bearer":
            raise ApiError(401, "send the server's token as the header Authorization: Bearer TOKEN", "invalid_token")


async def _read(headers: dict[str, str], receive: Receive) -> bytes:
    said = headers.get("content-length", "0")
    if said.isdigit() and int(said) > LARGEST_BODY:
        raise too_long(f"the body has {int(said):,} bytes: at most {LARGEST_BODY:,}")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise too_long(f"the body has more than {LARGEST_BODY:,} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def _refuse(error: ApiError, send: Send) -> None:
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
