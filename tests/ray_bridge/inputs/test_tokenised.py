"""Texts after a header that is read once have the ids, cuts and byte spans that they have as one string."""

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_bridge.config.presets import tiny
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.layout import answer_row
from ray_bridge.inputs.tokenised import HeaderTokenizer, TokenisedText, tokenise
from ray_bridge.tasks.synthetic.task import SyntheticTask
from tests.support.model_pairs import Arch, frozen, make_tokenizer
from tests.support.tokenising import align_tokens, byte_spans

TASK = SyntheticTask(train_examples=40, test_examples=20)
HEADER = TASK.header(TASK.train()[:3])
ENDS = ("\n\n", "\n", " ", "", "\n \n")


@cache
def sentence_piece(prepend: str = "normalizer") -> Any:
    """Return a tokenizer as Llama 2's: a space put before the text, spaces as ▁, byte pairs over the whole text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if prepend == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    texts = [TASK.prompt(example) + TASK.continuation(example) for example in TASK.train()]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@cache
def unigram() -> Any:
    """Return a tokenizer that is no byte-pair encoding: the most likely pieces of the whole text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    texts = [TASK.prompt(example) + TASK.continuation(example) for example in TASK.train()]
    special = ["<unk>", "</s>"]
    tokenizer.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


@cache
def gpt2() -> Any:
    """Return a tokenizer as GPT-2's, for which two line ends are one token only if no word follows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = [TASK.prompt(example) + TASK.continuation(example) + end for example in TASK.train() for end in ENDS]
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.encode("a\n\n").tokens == ["a", "ĊĊ"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


FAMILIES: dict[str, Callable[[], Any]] = {
    "metaspace": lambda: make_tokenizer("mistral"),
    "gpt2": gpt2,
    "byte_level_groups": lambda: make_tokenizer("llama"),
    "byte_level_nfc": lambda: make_tokenizer("gpt_neox"),
    "byte_level_digits": lambda: make_tokenizer("qwen2"),
    "sentence_piece": sentence_piece,
    "metaspace_always": lambda: sentence_piece("always"),
    "unigram": unigram,
}
ALPHABETS = ("abc XYZ ', ", "0123456789", "\n \t", "éüñ–€ ́", "東京日本", "😀🧮", "$%.:-")
LINES = st.lists(st.sampled_from(ALPHABETS).flatmap(lambda a: st.text(a, max_size=9)), max_size=9).map("".join)
HEADERS = st.lists(LINES, min_size=2, max_size=9).map("\n".join)
TEXTS = st.lists(LINES, min_size=1, max_size=4)
WORDS = (" has", "Tom", "apples", "Question:", "12", "\n", "\n\n", " ", ".", "▁")
PHRASES = st.lists(st.sampled_from(WORDS), max_size=12).map("".join)


def cut(text: TokenisedText, end: int) -> int | str:
    try:
        return text.tokens_before(end)
    except ValueError:
        return "refused"


def spelled(text: str) -> bool:
    """Whether tokens spell a text exactly; else their offsets decide, of what was read together."""
    return "▁" not in text and unicodedata.normalize("NFC", text) == text


def assert_as_one_string(tokenizer: Any, header: str, texts: Sequence[str]) -> None:
    for text, read in zip(texts, HeaderTokenizer(tokenizer, header)(texts), strict=True):
        (whole,) = tokenise(tokenizer, [header + text])
        assert read.ids == whole.ids == tuple(tokenizer(header + text, add_special_tokens=False)["input_ids"])
        for end in (len(header), len(header) + len(text) // 2, len(header + text)):
            assert cut(read, end) == cut(whole, end)
        if spelled(header + text):
            spans = read.byte_spans
            np.testing.assert_array_equal(spans.spans, byte_spans(tokenizer, header + text)[spans.first :])


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(start=st.sampled_from(["", HEADER]), header=HEADERS, end=st.sampled_from(ENDS), texts=TEXTS)
def test_any_text_after_any_header(family: str, start: str, header: str, end: str, texts: list[str]) -> None:
    assert_as_one_string(FAMILIES[family](), start + header + end, texts)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(header=PHRASES, end=st.sampled_from(ENDS), texts=st.lists(PHRASES, min_size=1, max_size=4))
def test_words_that_merge_with_their_neighbours(family: str, header: str, end: str, texts: list[str]) -> None:
    assert_as_one_string(FAMILIES[family](), HEADER + header + end, texts)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(
    header=st.sampled_from(["", HEADER]),
    long=st.lists(st.one_of(PHRASES, LINES), min_size=1, max_size=9).map("\n".join),
    end=st.sampled_from(("Answer:", *ENDS)),
    more=st.lists(st.one_of(PHRASES, LINES), min_size=1, max_size=3),
)
def test_texts_that_go_on(family: str, header: str, long: str, end: str, more: list[str]) -> None:
    tokenizer, text = FAMILIES[family](), HEADER * 3 + long + end
    read = HeaderTokenizer(tokenizer, header)
    texts, longer = [text] * len(more), [text + part for part in more]
    for new, one in zip(longer, read.continued(texts, read(texts), longer), strict=True):
        (whole,) = tokenise(tokenizer, [header + new])
        assert one.ids == whole.ids
        for at in (len(header + text), len(header + new)):
            assert cut(one, at) == cut(whole, at)
        if spelled(header + new):
            spans = one.byte_spans
            np.testing.assert_array_equal(spans.spans, byte_spans(tokenizer, header + new)[spans.first :])


def test_a_long_text_that_goes_on_is_not_read_again() -> None:
    tokenizer, text = Counting(make_tokenizer("llama")), HEADER * 10 + "Question: how many?\nAnswer:"
    read = HeaderTokenizer(tokenizer, "")
    (one,) = read([text])
    before = tokenizer.characters
    (longer,) = read.continued([text], [one], [text + " 7"])
    assert tokenizer.characters - before < 200
    assert longer.ids[-1:] != one.ids[-1:]
    (other,) = read.continued([text], [one], ["Another text"])
    assert other.ids == tuple(tokenizer.tokenizer("Another text", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", ["Question: how man", "There are 12", "Answer:\n", "so\n\n"])
def test_a_text_that_merges_with_the_header(family: str, end: str) -> None:
    texts = [" apples", "y apples", "345", "\n\n", "\n", " ", "", " 2"]
    assert_as_one_string(FAMILIES[family](), HEADER + end, texts)
    assert_as_one_string(FAMILIES[family](), HEADER + end, texts[::-1])


@pytest.mark.real
def test_a_real_tokenizer_after_a_header(real_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_model)
    texts = [TASK.prompt(example) + TASK.continuation(example) for example in TASK.test()]
    assert_as_one_string(tokenizer, HEADER, [*texts, "\nthen", "  two", "", "1", "́"])


class Counting:
    """A tokenizer that counts the characters it reads."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.characters = tokenizer, 0

    def __call__(self, texts: list[str], **settings: Any) -> Any:
        self.characters += sum(map(len, texts))
        return self.tokenizer(texts, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "unigram"])
def test_the_header_is_read_once(family: str) -> None:
    tokenizer = Counting(FAMILIES[family]())
    read = HeaderTokenizer(tokenizer, HEADER * 10)
    texts = [TASK.prompt(example) for example in TASK.test()]
    read(texts[:1])
    before = tokenizer.characters
    read(texts)
    longest_exemplar = max(map(len, HEADER.split("\n\n")))
    assert tokenizer.characters - before <= sum(map(len, texts)) + len(texts) * (48 + longest_exemplar)


def test_without_byte_pairs_every_text_is_read_with_the_header() -> None:
    """Other models weigh the pieces of the whole text, so that its end may change its beginning."""
    tokenizer, texts = Counting(unigram()), [TASK.prompt(example) for example in TASK.test()]
    HeaderTokenizer(tokenizer, HEADER)(texts)
    assert tokenizer.characters == sum(len(HEADER + text) for text in texts)


@pytest.mark.parametrize(("source", "target"), [("mistral", "llama"), ("qwen2", "mistral"), ("gpt_neox", "gpt_neox")])
@pytest.mark.parametrize("place", ["first", "before_question"])
def test_an_encoded_example_is_that_of_the_whole_prompt(source: Arch, target: Arch, place: str) -> None:
    lms = frozen(source, 32), frozen(target, 32)
    spec = tiny(num_fewshot=3, soft_position=place, injection="residual")
    for item in Encoder(spec, TASK, HEADER, *lms)(TASK.test()):
        prompt, question = TASK.prompt(item.example), item.example.question
        after = place == "before_question"
        row = answer_row(lms[1], HEADER, prompt, TASK.continuation(item.example), soft_after_header=after)
        assert (item.row.before, item.row.prompt, item.row.answer) == (row.before, row.prompt, row.answer)
        assert item.row.header == row.header
        own = answer_row(lms[0], HEADER, prompt, None, soft_after_header=False)
        assert item.source_ids == own.before + own.prompt
        assert item.source_header == own.header
        begin = len(HEADER) + prompt.rindex(question)
        expected = align_tokens(lms[0].tokenizer, lms[1].tokenizer, HEADER + prompt, begin, begin + len(question))
        assert item.alignment is not None
        for name in ("source_span", "tokens", "bytes", "row", "column", "share"):
            np.testing.assert_array_equal(getattr(item.alignment, name), getattr(expected, name))
        assert item.question_span == tuple(end + 1 for end in expected.source_span)
        first, last = item.row.span
        positions = [len(item.row.before) + first - 1, len(item.row.before) + last - 2]
        assert positions == [expected.tokens[0], expected.tokens[-1]]
        assert item.question_ids == tuple(lms[1].tokenizer(question, add_special_tokens=False)["input_ids"])
