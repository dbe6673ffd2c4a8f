"""Alignment of two tokenizers' tokens over the bytes of a text."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ray_bridge.config.checkpoint_names import EMBEDDED
from ray_bridge.models.token_alignment import ByteSpans, TokenAlignment, align_spans
from ray_bridge.tasks.synthetic.task import SyntheticTask
from tests.support.model_pairs import Arch, make_tokenizer
from tests.support.tokenising import align_tokens, byte_spans

ALPHABETS = ("abc XYZ ', ", "0123456789", "\n \t", "éüñ–€ ́", "東京日本", "😀🧮", "$%.:-")
QUESTIONS = st.lists(st.sampled_from(ALPHABETS).flatmap(lambda a: st.text(a, max_size=6)), min_size=1, max_size=8)
PAIRS: list[tuple[Arch, Arch]] = [("mistral", "llama"), ("llama", "mistral"), ("gpt_neox", "qwen2")]


def byte_count(arch: Arch, token: str) -> int:
    """Bytes of a token, from how its family writes tokens: byte-level ones use one character a byte."""
    if arch != "mistral":
        return len(token)
    return 1 if token.startswith("<0x") and len(token) == 6 else len(token.replace("▁", " ").encode())


def owners(arch: Arch, text: str) -> np.ndarray:
    """Which token each byte of a text belongs to, (bytes,)."""
    tokens = make_tokenizer(arch).tokenize(text)
    counts = [byte_count(arch, token) for token in tokens]
    if arch == "mistral" and tokens:
        counts[0] -= 1  # the space that metaspace puts before a text
    return np.repeat(np.arange(len(tokens)), counts)


def expected(source: Arch, target: Arch, text: str, begin: int, end: int) -> tuple[np.ndarray, int, int]:
    """Bytes of [begin, end) that each target and source token share, with the first tokens' numbers."""
    of_target, of_source = owners(target, text)[begin:end], owners(source, text)[begin:end]
    first, start = int(of_target[0]), int(of_source[0])
    counts = np.zeros((of_target[-1] - first + 1, of_source[-1] - start + 1))
    np.add.at(counts, (of_target - first, of_source - start), 1)
    return counts, first, start


def matrix(alignment: TokenAlignment) -> np.ndarray:
    dense = np.zeros((len(alignment.tokens), alignment.source_span[1] - alignment.source_span[0]))
    np.add.at(dense, (alignment.row, alignment.column), alignment.share)
    return dense


@pytest.mark.parametrize(("source", "target"), PAIRS)
@settings(max_examples=60, deadline=None)
@given(pieces=QUESTIONS)
def test_rows_hold_the_bytes_that_two_tokens_share(source: Arch, target: Arch, pieces: list[str]) -> None:
    question = "".join(pieces)
    if not question or (source == "gpt_neox" and "́" in question):  # it composes accents: see below
        return
    text = f"Question: {question}\nAnswer:"
    begin = len("Question: ")
    alignment = align_tokens(make_tokenizer(source), make_tokenizer(target), text, begin, begin + len(question))
    counts, first, start = expected(source, target, text, begin, begin + len(question.encode()))
    assert alignment.tokens.tolist() == list(range(first, first + len(counts)))
    assert alignment.source_span == (start, start + counts.shape[1])
    np.testing.assert_allclose(matrix(alignment).sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(alignment.bytes, counts.sum(1))
    np.testing.assert_allclose(matrix(alignment) * counts.sum(1, keepdims=True), counts, atol=1e-5)
    assert counts.sum() == len(question.encode())


def test_the_embedded_pair_shares_bytes() -> None:
    folders = [Path(EMBEDDED[side]) for side in ("source", "target")]
    if not all((folder / "tokenizer.json").is_file() for folder in folders):
        pytest.skip("no embedded pair in this checkout")
    source, target = (PreTrainedTokenizerFast.from_pretrained(folder) for folder in folders)
    for example in SyntheticTask(train_examples=30, test_examples=1).train():
        question = example.question + " 1,234 – 東 😀\n"
        text = f"Question: {question}\nAnswer:"
        begin = len("Question: ")
        alignment = align_tokens(source, target, text, begin, begin + len(question))
        np.testing.assert_allclose(matrix(alignment).sum(1), 1, atol=1e-5)
        assert alignment.bytes.sum() == len(question.encode())
        for tokenizer in (source, target):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            for i, (low, high) in zip(ids, byte_spans(tokenizer, text).tolist(), strict=True):
                piece = text.encode()[low:high].decode(errors="replace")
                assert tokenizer.decode([i]).strip() == piece.strip() or "\ufffd" in piece


def test_grouped_digits_pool_single_digits() -> None:
    alignment = align_tokens(make_tokenizer("mistral"), make_tokenizer("llama"), "Tom has 1234", 8, 12)
    np.testing.assert_allclose(matrix(alignment), [[1 / 3, 1 / 3, 1 / 3, 0], [0, 0, 0, 1]], atol=1e-6)


def test_single_digits_repeat_the_state_of_their_group() -> None:
    alignment = align_tokens(make_tokenizer("llama"), make_tokenizer("mistral"), "Tom has 1234", 8, 12)
    np.testing.assert_allclose(matrix(alignment), [[1, 0], [1, 0], [1, 0], [0, 1]])


def test_trimmed_spaces_belong_to_the_token_that_spells_them() -> None:
    tokenizer = make_tokenizer("gpt_neox")
    text = "Tom has  12"
    assert tokenizer(text, return_offsets_mapping=True)["offset_mapping"][1] == (4, 7)
    assert byte_spans(tokenizer, text)[:2].tolist() == [[0, 3], [3, 7]]


def test_bytes_of_a_split_character_go_to_their_own_tokens() -> None:
    assert byte_spans(make_tokenizer("llama"), "a😀")[-4:].tolist() == [[1, 2], [2, 3], [3, 4], [4, 5]]
    assert byte_spans(make_tokenizer("mistral"), "a😀")[-4:].tolist() == [[1, 2], [2, 3], [3, 4], [4, 5]]


@settings(max_examples=60, deadline=None)
@given(pieces=QUESTIONS)
def test_normalised_text_is_aligned_by_offsets(pieces: list[str]) -> None:
    question = "cafe\u0301 " + "".join(pieces)
    tokenizer = make_tokenizer("gpt_neox")  # NFC: its tokens spell fewer bytes than the text has
    alignment = align_tokens(tokenizer, make_tokenizer("llama"), question, 0, len(question))
    np.testing.assert_allclose(matrix(alignment).sum(1), 1, atol=1e-5)
    assert alignment.bytes.sum() == pytest.approx(len(question.encode()))
    spans = byte_spans(tokenizer, question)
    assert spans[0, 0] == 0
    assert spans[-1, 1] == len(question.encode())


def dense_alignment(source: ByteSpans, target: ByteSpans, low: int, high: int) -> np.ndarray:
    """The definition: each byte of the span is divided equally among the tokens of each tokenizer that cover it."""
    place = np.arange(low, high)
    of_target, of_source = (
        ((s.spans[:, :1] <= place) & (place < s.spans[:, 1:])).astype(float) for s in (target, source)
    )
    of_target /= of_target.sum(0)
    of_source /= of_source.sum(0)
    shared = (of_target @ of_source.T)[of_target.any(1)][:, of_source.any(1)]
    return shared / shared.sum(1, keepdims=True)


@st.composite
def spans(draw: st.DrawFn, length: int = 24) -> ByteSpans:
    """Tokens that cover a text, some of which overlap or are empty, as of tokenizers that rewrite it."""
    cuts = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=9))})
    tokens = [(a, b) for a, b in pairwise(cuts) for _ in range(draw(st.integers(1, 3)))]
    for at in draw(st.lists(st.integers(0, len(tokens)), max_size=2)):
        edge = tokens[at][0] if at < len(tokens) else length
        tokens.insert(at, (edge, edge))
    return ByteSpans(first=draw(st.integers(0, 5)), spans=np.array(tokens, dtype=np.int64))


@settings(max_examples=200, deadline=None)
@given(source=spans(), target=spans(), data=st.data())
def test_spans_are_merged_as_their_bytes_say(source: ByteSpans, target: ByteSpans, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, 23))
    high = data.draw(st.integers(low + 1, 24))
    alignment = align_spans(source, target, low, high)
    np.testing.assert_allclose(
        matrix(alignment)[:, matrix(alignment).any(0)], dense_alignment(source, target, low, high), atol=1e-6
    )
    assert alignment.source_span == source.inside(low, high)
    assert (alignment.tokens[0], alignment.tokens[-1] + 1) == target.inside(low, high)
    assert alignment.bytes.sum() == pytest.approx(high - low)
    order = np.lexsort((alignment.column, alignment.row))
    assert order.tolist() == list(range(len(order))), "entries are in the order of the rows"
