"""Which bytes tokens stand for, in tokenizers of each style, whatever their special tokens hold."""

import copy
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ray_bridge.models.embedding_map import shared_embeddings
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_spelling import spelling_of, vocabulary_bytes, writes_bytes
from tests.support.model_pairs import Arch, frozen, make_model, make_tokenizer
from tests.support.tokenising import align_tokens, byte_spans

DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>")
TEXT = "Tom has 12 pears.\nAnn has  3."


def deepseek(arch: Arch = "llama") -> Any:
    """Return a byte-level tokenizer whose special tokens hold ▁, as DeepSeek-R1-Distill's."""
    tokenizer = copy.deepcopy(make_tokenizer(arch))
    tokenizer.add_special_tokens({"additional_special_tokens": list(DEEPSEEK)})
    return tokenizer


def both_decoders() -> Any:
    """Return a byte-level tokenizer whose decoder undoes ▁, too, as transformers makes them of GGUF files."""
    tokenizer = copy.deepcopy(make_tokenizer("qwen2"))
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " "), decoders.ByteLevel()]
    )
    return tokenizer


def bare(tokens: list[str], *, prefix: str) -> Any:
    """Return a tokenizer that says in none of its parts how it writes spaces."""
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [(prefix, "a")]))
    backend.pre_tokenizer = pre_tokenizers.Split("a", "merged_with_previous")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<▁Ġ｜>"]})
    return tokenizer


@pytest.mark.parametrize("make", [deepseek, lambda: deepseek("gpt_neox"), both_decoders])
def test_byte_level_whatever_special_tokens_and_decoders_hold(make: Any) -> None:
    tokenizer = make()
    assert writes_bytes(tokenizer)
    vocabulary = vocabulary_bytes(tokenizer)
    for data, token in {b" has": "Ġhas", b"\n": "Ċ", b" ": "Ġ", b"7": "7"}.items():
        assert tokenizer.convert_ids_to_tokens(vocabulary[data]) == token
    assert not {token.encode() for token in DEEPSEEK} & vocabulary.keys()
    read = [TEXT.encode()[low:high] for low, high in byte_spans(tokenizer, TEXT)]
    assert b" has" in read
    assert read == [token.replace("Ġ", " ").replace("Ċ", "\n").encode() for token in tokenizer.tokenize(TEXT)]


def test_special_tokens_in_a_text_are_read_as_they_are_written() -> None:
    tokenizer, text = deepseek(), f"{DEEPSEEK[0]}Tom has 12.{DEEPSEEK[1]}\n"
    read = [text.encode()[low:high].decode() for low, high in byte_spans(tokenizer, text)]
    assert read[0] == DEEPSEEK[0]
    assert " has" in read
    assert "".join(read) == text
    assert spelling_of(tokenizer)(tokenizer.convert_tokens_to_ids(list(DEEPSEEK))) == [t.encode() for t in DEEPSEEK]


def test_added_tokens_of_byte_level_tokenizers_are_read_as_they_are_written() -> None:
    """All characters of `café` stand for bytes too, of which the last would be one that is no text."""
    tokenizer, text = copy.deepcopy(make_tokenizer("llama")), "One café has 12."
    tokenizer.add_tokens(["café"])
    (added,) = tokenizer.convert_tokens_to_ids(["café"])
    assert spelling_of(tokenizer)([added]) == ["café".encode()]
    assert vocabulary_bytes(tokenizer)["café".encode()] == added
    read = [text.encode()[low:high].decode() for low, high in byte_spans(tokenizer, text)]
    assert "café" in read
    assert "".join(read) == text


def test_special_tokens_of_sentencepiece_keep_their_marks() -> None:
    tokenizer = copy.deepcopy(make_tokenizer("mistral"))
    tokenizer.add_special_tokens({"additional_special_tokens": [DEEPSEEK[0]]})
    text = f"Tom has{DEEPSEEK[0]} 12"
    read = [text.encode()[low:high].decode() for low, high in byte_spans(tokenizer, text)]
    assert DEEPSEEK[0] in read
    assert " has" in read
    assert spelling_of(tokenizer)(tokenizer.convert_tokens_to_ids([DEEPSEEK[0]])) == [DEEPSEEK[0].encode()]


@pytest.mark.parametrize(("prefix", "byte_level"), [("Ġ", True), ("▁", False)], ids=["byte level", "metaspace"])
def test_ordinary_tokens_decide_where_no_part_does(prefix: str, byte_level: bool) -> None:
    tokenizer = bare(["a", prefix, f"{prefix}a"], prefix=prefix)
    assert writes_bytes(tokenizer) is byte_level
    assert vocabulary_bytes(tokenizer) == {b"a": 0, b" ": 1, b" a": 2}


@pytest.mark.parametrize(
    ("arch", "byte_level"), [("mistral", False), ("llama", True), ("gpt_neox", True), ("qwen2", True)]
)
def test_families(arch: Arch, byte_level: bool) -> None:
    assert writes_bytes(make_tokenizer(arch)) is byte_level


def test_a_distilled_model_shares_words_and_lines_with_a_sentencepiece_one() -> None:
    tokenizer = deepseek()
    distilled = FrozenLM(make_model("llama", tokenizer), tokenizer, "distilled")
    source = frozen("mistral", 48)
    assert len(shared_embeddings(source, distilled)[0]) == len(shared_embeddings(source, frozen("llama", 32))[0])
    alignment = align_tokens(source.tokenizer, tokenizer, TEXT, 4, 10)
    assert alignment.bytes.tolist() == [3.0, 1.0, 2.0]  # "has", " ", "12"


@pytest.mark.parametrize(
    ("arch", "spelled"),
    [
        ("mistral", {b"\n": "\n", b"\t": "<0x09>", b" has": "▁has", b"7": "7", b" ": "▁", "東".encode(): "東"}),
        ("llama", {b"\n": "Ċ", b" has": "Ġhas", b"7": "7", b" ": "Ġ", b"\xff": "ÿ", b"\x00": "Ā"}),
    ],
)
def test_vocabularies_meet_in_bytes(arch: Arch, spelled: dict[bytes, str]) -> None:
    tokenizer = make_tokenizer(arch)
    vocabulary = vocabulary_bytes(tokenizer)
    assert not set(tokenizer.all_special_ids) & set(vocabulary.values())
    for data, token in spelled.items():
        assert tokenizer.convert_ids_to_tokens(vocabulary[data]) == token


def test_byte_tokens_are_left_out_of_the_vocabulary() -> None:
    tokenizer = make_tokenizer("mistral")
    vocabulary = vocabulary_bytes(tokenizer)
    assert b"\xff" not in vocabulary
    assert tokenizer.convert_ids_to_tokens(vocabulary[b"a"]) == "a"
    assert tokenizer.convert_ids_to_tokens(vocabulary[b"\n"]) == "\n"  # the written one, though its number is higher
