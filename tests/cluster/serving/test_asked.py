"""Bodies of requests: what OpenAI's clients send by themselves is taken, what a translator cannot do is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from cluster.serving.asked import ChatCompletion, Comparison, Completion, Sampled

ASKED = {"model": "m", "prompt": "How many?"}


@pytest.mark.parametrize(
    "field",
    [
        {"n": 1},
        {"top_p": 1.0},
        {"stop": None},
        {"stop": []},
        {"frequency_penalty": 0.0},
        {"logprobs": False},
        {"logprobs": None},
        {"user": "somebody"},
        {"metadata": {"a": "b"}},
        {"tools": []},
    ],
)
def test_fields_that_ask_for_nothing_are_taken(field: dict[str, Any]) -> None:
    assert Completion(**ASKED, **field).questions == ["How many?"]


@pytest.mark.parametrize(
    "field", [{"n": 2}, {"top_p": 0.5}, {"stop": ["\n"]}, {"logprobs": 3}, {"tools": [{}]}, {"echo": True}, {"best": 1}]
)
def test_what_is_not_supported_is_named(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(field))} is not supported: leave it out"):
        Completion(**ASKED, **field)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "system", "content": "Be brief."}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": [{"role": "user", "content": "a"}], "max_tokens": 0},
        {"messages": [{"role": "user", "content": "a"}], "temperature": 3},
    ],
)
def test_a_conversation_is_one_question(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatCompletion(model="m", **body)


def test_a_message_in_parts_is_one_text() -> None:
    parts = [{"type": "text", "text": "How "}, {"type": "text", "text": "many?"}]
    body = ChatCompletion(model="m", messages=[{"role": "user", "content": parts}], max_completion_tokens=3)  # type: ignore[list-item]
    assert (body.questions, body.new_tokens) == (["How many?"], 3)


def test_samples_differ_from_request_to_request_unless_a_seed_is_given() -> None:
    def seed(**fields: Any) -> int:
        return int(Sampled(model="m", **fields).decoding(8)["seed"])

    assert seed() == 0
    assert seed(temperature=1.0, seed=7) == 7
    assert len({seed(temperature=1.0) for _ in range(20)}) > 10


def test_a_condition_is_compared_once() -> None:
    assert Comparison(question="x", conditions=["bridged", "target_alone"]).conditions == ["bridged", "target_alone"]
    with pytest.raises(ValidationError, match="name each condition once"):
        Comparison(question="x", conditions=["bridged", "bridged"])
