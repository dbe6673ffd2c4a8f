"""Who is let in, asked as a server asks it: an ASGI application and its messages."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from cluster.serving.guard import Guard
from cluster.serving.settings import LARGEST_BODY, token_digest

TOKEN = "a-token-of-some-length"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the size of the body, as an application that is let through."""
    size = len((await receive())["body"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"size": size}).encode()})


def ask(
    path: str = "/compare",
    headers: dict[str, str] | None = None,
    *,
    token: str | None = None,
    parts: tuple[bytes, ...] = (b"",),
) -> tuple[int, Any, dict[str, str]]:
    """Return status, body and headers of an answer."""
    sent: list[MutableMapping[str, Any]] = []
    messages = [{"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    pairs = [
        (name.lower().encode(), value.encode()) for name, value in ({"Host": "localhost:1"} | (headers or {})).items()
    ]
    refused: list[tuple[str, int]] = []
    guard = Guard(echo, None if token is None else token_digest(token), lambda *request: refused.append(request))
    asyncio.run(guard({"type": "http", "path": path, "headers": pairs}, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    status = int(sent[0]["status"])
    assert refused == ([] if status == 200 else [(path, status)])
    return status, json.loads(sent[1]["body"]), found


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "LOCALHOST:1"]
)
def test_without_a_token_local_names_are_answered(host: str) -> None:
    assert ask(headers={"Host": host})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_without_a_token_other_names_are_refused(host: str) -> None:
    status, body, _ = ask(headers={"Host": host})
    assert (status, body["error"]["code"]) == (403, "foreign_host")


def test_a_token_lets_in_under_any_name() -> None:
    shown = {"Authorization": f"Bearer {TOKEN}", "Host": "server.example"}
    assert ask(headers=shown, token=TOKEN)[0] == 200
    assert ask(headers={"Authorization": f"bearer  {TOKEN} "}, token=TOKEN)[0] == 200


@pytest.mark.parametrize(
    "shown",
    ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer t\u00f6ken"],
)
@pytest.mark.parametrize("path", ["/compare", "/v1/models", "/metrics", "/openapi.json", "//", "/health/"])
def test_without_the_token_nothing_but_page_and_health(shown: str, path: str) -> None:
    status, body, headers = ask(path, {"Authorization": shown}, token=TOKEN)
    assert (status, body["error"]["code"], headers["www-authenticate"]) == (401, "invalid_token", "Bearer")
    assert TOKEN not in json.dumps(body)
    assert [ask(open_path, {"Authorization": shown}, token=TOKEN)[0] for open_path in ("/", "/health")] == [200, 200]


def test_bodies_are_bounded_whether_their_length_is_said_or_not() -> None:
    half = b"x" * (LARGEST_BODY // 2)
    assert ask(parts=(half, half))[1] == {"size": LARGEST_BODY}
    for headers, parts in (({"Content-Length": str(LARGEST_BODY + 1)}, (b"",)), ({}, (half, half, b"x"))):
        status, body, _ = ask(headers=headers, parts=parts)
        assert (status, body["error"]["code"]) == (413, "too_long")
