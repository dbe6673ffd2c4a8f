"""Requests that are refused before a replica is asked: one line with the field, and a place in the counts."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from ray.serve.handle import DeploymentHandle

from cluster.serving.api import make_app
from cluster.serving.client import APP, MODEL, ModelClient
from cluster.serving.queue import QuestionQueue
from cluster.serving.settings import LARGEST_BODY, Limits, token_digest

TOKEN = "a-token-of-some-length"
COMPLETION, CHAT, COMPARE = "/v1/completions", "/v1/chat/completions", "/compare"
ASKED = {"model": "m", "prompt": "How many?"}


def served(token: str | None = None) -> TestClient:
    """Return a client of a server whose replicas do not run, and are not asked."""
    model = ModelClient(DeploymentHandle(MODEL, app_name=APP), QuestionQueue(4, 4))
    digest = None if token is None else token_digest(token)
    return TestClient(make_app(model, "m", Limits(), digest), base_url="http://localhost")


def ask(path: str, body: Any) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = served().post(path, content=content, headers={"Content-Type": "application/json"})
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        (COMPLETION, ASKED | {"n": 2}, "n", "n is not supported: leave it out"),
        (COMPLETION, ASKED | {"a\nb": 2}, "a b", "a b is not supported: leave it out"),
        (COMPLETION, ASKED | {"k" * 5000: 2}, "k" * 60, f"{'k' * 60} is not supported: leave it out"),
        (COMPLETION, ASKED | {"max_tokens": -1}, "max_tokens", "max_tokens: Input should be greater than or equal to"),
        (COMPLETION, {"model": "m", "prompt": [15, 16]}, "prompt", "prompt: give a question, or a list of questions"),
        (COMPLETION, {"model": "m", "prompt": None}, "prompt", "prompt: give a question, or a list of questions"),
        (COMPLETION, b"{", None, "the body is no JSON (Expecting property name enclosed in double quotes)"),
        (COMPLETION, b"[" * 10**5, None, "the body is no JSON"),
        (COMPLETION, b'{"model": "\xff"}', None, "the body is no JSON"),
        (COMPLETION, b"", None, "send a JSON object with Content-Type: application/json"),
        (COMPLETION, b"[1]", None, "send a JSON object with Content-Type: application/json"),
        (CHAT, {"model": "m", "messages": []}, "messages", "messages: give one, the question, with the role user"),
        (
            CHAT,
            {"model": "m", "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]},
            "messages",
            "messages: give one, the question, with the role user; a translator takes no system messages",
        ),
        (
            CHAT,
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
            "messages.0.content: give a text, or parts of the type text",
        ),
        (COMPARE, {"question": "x", "k" * 5000: 2}, "k" * 60, f"{'k' * 60}: Extra inputs are not permitted"),
    ],
)
def test_what_is_asked_wrongly_is_one_short_line_with_its_field(
    path: str, body: Any, param: str | None, message: str
) -> None:
    status, error = ask(path, body)
    assert (status, error["param"]) == (400, param)
    assert error["message"].startswith(message)
    assert "\n" not in error["message"]


def test_refused_requests_are_counted() -> None:
    def counts(client: TestClient) -> dict[tuple[str, str], float]:
        text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {
            (s.labels["path"], s.labels["status"]): s.value for s in samples if s.name == "ray_bridge_requests_total"
        }

    with served(TOKEN) as client:
        client.post(COMPARE, json={"question": "x"})  # without the token
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        client.post(COMPLETION, json=ASKED | {"n": 2})
        client.post(COMPLETION, content=b"[" * 10**5, headers={"Content-Type": "application/json"})
        client.post(COMPLETION, content=b" " * (LARGEST_BODY + 1))
        client.post(COMPLETION, json=ASKED | {"model": "gpt"})
        for path in ("/v1/responses", "/a", "/b"):  # no path that a stranger makes up gets a count
            client.get(path)
        assert counts(client) == {
            (COMPARE, "401"): 1,
            (COMPLETION, "400"): 2,
            (COMPLETION, "413"): 1,
            (COMPLETION, "404"): 1,
            ("other", "404"): 3,
        }
