"""Encoded examples are remembered up to a number of tokens: the last used, each counted once."""

import pytest

from ray_bridge.config.presets import tiny
from ray_bridge.inputs import encoding
from ray_bridge.inputs.encoding import Encoded, Encoder
from ray_bridge.tasks.task import Example
from tests.support.decoding_rows import TASK
from tests.support.model_pairs import frozen

EXAMPLES = TASK.test()[:6]


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(tiny(num_fewshot=0), TASK, "", frozen("mistral", 48), frozen("llama", 32))


def kept(encoder: Encoder) -> list[Example]:
    """Return the examples that are remembered, of which no more is held than their tokens say."""
    items = list(encoder._kept.values())
    assert encoder._tokens == sum(item.tokens for item in items)
    return [item.example for item in items]


def one(encoder: Encoder, example: Example) -> Encoded:
    (item,) = encoder([example])
    return item


def test_the_last_used_examples_are_remembered_within_the_bound(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [item.tokens for item in encoder.for_models(encoder.source, encoder.target)(EXAMPLES)]
    monkeypatch.setattr(encoding, "KEPT_TOKENS", 3 * max(sizes))
    first = one(encoder, EXAMPLES[0])
    for example in EXAMPLES[1:5]:
        one(encoder, example)
        assert one(encoder, EXAMPLES[0]) is first  # used again, so it stays
        assert sum(item.tokens for item in encoder._kept.values()) <= encoding.KEPT_TOKENS
    names = kept(encoder)
    assert names[-2:] == [EXAMPLES[4], EXAMPLES[0]]
    assert EXAMPLES[1] not in names
    again = encoder.for_models(encoder.source, encoder.target)
    assert one(encoder, EXAMPLES[1]).row == one(again, EXAMPLES[1]).row


def test_an_example_counts_once_however_often_it_is_remembered(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = encoder(EXAMPLES)
    monkeypatch.setattr(encoding, "KEPT_TOKENS", sum(item.tokens for item in items))
    for _ in range(3):
        encoder.remember(items[:2])
    assert sorted(example.id for example in kept(encoder)) == sorted(example.id for example in EXAMPLES)


def test_one_beyond_the_bound_is_returned_and_remembered_alone(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "KEPT_TOKENS", 1)
    assert [item.example for item in encoder(EXAMPLES)] == list(EXAMPLES)
    assert kept(encoder) == [EXAMPLES[-1]]
