"""Byte tokens, whose text changes until their run is whole, and special tokens inside a text."""

import random

import pytest

from ray_bridge.generation.stopping import Stopping
from ray_bridge.inference.streams import stream_outputs
from ray_bridge.tasks.scoring import strict_answer
from tests.support.model_pairs import Arch, make_tokenizer
from tests.support.tokenising import token_ids

FAMILIES: tuple[Arch, ...] = ("mistral", "llama", "qwen2", "gpt_neox")


def stopping(arch: Arch, *stops: str) -> Stopping:
    return Stopping(ends=frozenset(), stops=stops, tokenizer=make_tokenizer(arch))


def byte_ids(text: str) -> list[int]:
    """Return the byte tokens of a text, as Mistral writes what its vocabulary lacks, and a line's end."""
    return [make_tokenizer("mistral").convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in text.encode()]


def streamed(rule: Stopping, ids: list[int]) -> str:
    return "".join(text for step in stream_outputs(([(0, i)] for i in ids), rule, 1) for _, text, _ in step)


def drawn(seed: int, arch: Arch) -> list[int]:
    """Return ids of words, of emoji whole and in part, of line ends as byte tokens, of special and any other tokens."""
    draw, tokenizer = random.Random(seed), make_tokenizer(arch)
    (blank, *_), special = token_ids(tokenizer, " "), tokenizer.eos_token_id
    ids: list[int] = []
    while len(ids) < 80:
        words = token_ids(tokenizer, draw.choice(["so 5 ", "so 5 ", "Question:", "東京 🙂", "\n"]))
        pieces = [list(words), [draw.randrange(len(tokenizer))], [draw.choice([blank, special])] * draw.randrange(20)]
        if arch == "mistral":
            run = byte_ids("\n🙂é")
            pieces += [byte_ids("\n"), byte_ids("🙂"), run[: draw.randrange(len(run))], run[draw.randrange(3) :]]
        ids += draw.choice(pieces)
    return ids


def test_a_text_ends_with_the_byte_token_that_completes_its_stop_text() -> None:
    rule = stopping("mistral", "\n")
    ids = [*token_ids(rule.tokenizer, "Paris"), *byte_ids("\n🙂🙂"), *token_ids(rule.tokenizer, "abc")]
    length = len(token_ids(rule.tokenizer, "Paris")) + 1
    assert not rule.has_ended(ids[: length - 1])
    for more in range(length, len(ids) + 1):
        assert rule.cut(ids[:more]) == (ids[:length], True)
        assert (rule.text(ids[:more]), rule.has_ended(ids[:more])) == ("Paris", True)
        assert rule.is_complete(ids[:more], new=more - length + 1)


def test_a_character_of_several_byte_tokens_is_streamed_whole() -> None:
    rule = stopping("mistral", "\nQuestion:")
    ids = list(token_ids(rule.tokenizer, "Good 🙂🙂 #### 5"))
    assert streamed(rule, ids) == rule.text(ids) == "Good 🙂🙂 #### 5"


@pytest.mark.parametrize("stops", [("\n",), ("\n\n", "Question:"), ("🙂", "京"), (" ", "\n\n\n")])
@pytest.mark.parametrize("arch", FAMILIES)
def test_where_a_text_ends_depends_on_no_later_id_and_not_on_how_often_one_looks(
    arch: Arch, stops: tuple[str, ...]
) -> None:
    rule = stopping(arch, *stops)
    ended = 0
    for seed in range(20):
        ids = drawn(seed, arch)
        first = next((n for n in range(1, len(ids) + 1) if rule._holds_stop(ids[:n])), None)
        assert first == next((n for n in range(1, len(ids) + 1) if rule.has_ended(ids[:n])), None)
        ended += first is not None
        for every in (1, 3, 16):
            looks = range(every, len(ids) + every, every)
            seen = next((n for n in looks if rule.is_complete(ids[:n], new=every)), None)
            assert (seen is None) == (first is None)
            assert seen is None or first is None or seen - every < first <= seen
        assert streamed(rule, ids) == rule.text(ids)
        assert rule.cut(ids)[0] == ids[:first]
    assert ended > 2


def test_bytes_that_are_no_characters_may_be_a_stop_text() -> None:
    rule = stopping("mistral", "\ufffd\ufffd")
    words, begun = token_ids(rule.tokenizer, "so"), byte_ids("🙂")[:3]
    ids = [*words, *begun, *words]
    assert rule.cut(ids) == (ids[: len(words) + 2], True)
    assert rule.is_complete(ids, new=len(ids))


@pytest.mark.parametrize("arch", FAMILIES)
def test_a_special_token_that_ends_nothing_still_separates_numbers(arch: Arch) -> None:
    rule = stopping(arch, "\nQuestion:")
    before, after = token_ids(rule.tokenizer, "#### 60"), token_ids(rule.tokenizer, "12 more")
    ids = [*before, rule.tokenizer.eos_token_id, *after]
    assert [line.strip() for line in rule.text(ids).splitlines()] == ["#### 60", "12 more"]
    assert strict_answer(rule.text(ids)) == "60"
    assert streamed(rule, ids) == rule.text(ids)
