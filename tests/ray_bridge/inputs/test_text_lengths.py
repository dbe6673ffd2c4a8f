"""Lengths before a job starts are those of the rows that its encoder makes: of text, and of every chat template."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import paper, tiny
from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs import text_lengths as module
from ray_bridge.inputs.rows import Row
from ray_bridge.inputs.text_lengths import LongestTexts, TextSizes, text_lengths
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import load_splits
from tests.support.chat_tokenizers import STYLES, chat_lm, save_chat_pair
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders, frozen, make_tokenizer

SIZES: dict[str, Any] = {"train_examples": 12, "validation_examples": 3, "test_examples": 6}
ALL: dict[str, Any] = {"train_examples": None, "validation_examples": 4, "test_examples": None}


def positions(row: Row) -> int:
    return len(row.before) + len(row.prompt)


def check(spec: JobSpec, source: FrozenLM, target: FrozenLM) -> None:
    """Compare the lengths of a job with the rows of its encoder."""
    splits = load_splits(spec)
    encoder = ModelPair.of(spec, splits, source, target).encoder
    supervised = [*splits.train, *splits.validation]
    examples = [*supervised, *splits.test]
    read, own = text_lengths(spec)
    assert read is not None
    assert own is not None
    assert read.measured
    assert own.measured
    assert read.source == own.source == f"the longest of {len(examples):,} texts"
    assert read.header + read.prompt == max(len(item.source_ids) for item in encoder(examples))
    assert own.header == encoder(examples)[0].text_row.header
    assert own.header + own.prompt == max(positions(item.text_row) for item in encoder(examples))
    rows = [item.text_row for item in encoder(supervised)]
    assert own.answer == max(len(row.answer) for row in rows)
    assert own.header + own.answered == max(positions(row) + len(row.answer) for row in rows)
    tested = [item.source_ids for item in encoder(splits.test)]
    assert read.header + read.asked == max(map(len, tested))
    answered = examples if spec.decode_aware else [*splits.validation, *splits.test]
    assert own.header + own.asked == max(positions(item.text_row) for item in encoder(answered))
    written = [encoder.text_bridge_row(example, "") for example in splits.test]
    assert own.header + own.written + own.prompt == max(map(positions, written))


@pytest.mark.parametrize("exemplars", [0, 2])
@pytest.mark.parametrize("style", STYLES)
def test_lengths_of_conversations_are_those_of_the_encoder(style: str, exemplars: int, tmp_path: Path) -> None:
    other = "mistral" if style == "llama" else "llama"
    pair = save_chat_pair(tmp_path, other, style)
    spec = tiny(source=pair.source, target=pair.target, prompt_format="chat", num_fewshot=exemplars, **SIZES)
    check(spec, chat_lm(other, 48), chat_lm(style))
    check(spec.replace(source=pair.target, target=pair.source), chat_lm(style), chat_lm(other, 48))


@pytest.mark.parametrize("exemplars", [0, 2])
def test_lengths_of_text_are_those_of_the_encoder(folders: PairFolders, exemplars: int) -> None:
    spec = small_spec(folders, num_fewshot=exemplars, **SIZES)
    source, target = FrozenLM.load(spec.source), FrozenLM.load(spec.target)
    for sampled in (False, True):
        check(spec.replace(decode_aware=sampled), source, target)


def test_a_model_that_is_not_here_has_no_lengths(folders: PairFolders) -> None:
    read, own = text_lengths(small_spec(folders).replace(target="nobody/has-this-model"))
    assert read is not None
    assert own is None


def test_data_that_are_not_here_are_assumed_with_the_template_that_is(tmp_path: Path) -> None:
    pair = save_chat_pair(tmp_path, "llama", "qwen")
    spec = paper(source=pair.source, target=pair.target, prompt_format="chat", num_fewshot=2)
    (_, own), said = text_lengths(spec), "You are a helpful assistant."
    assert own is not None
    assert not own.measured
    assert "template" not in own.source
    template = Path(pair.target) / "chat_template.jinja"
    template.write_text(template.read_text().replace(said, said * 50))
    (_, longer), tokenizer = text_lengths(spec), chat_lm("qwen").tokenizer
    assert longer is not None
    more = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (said, said * 50)]
    assert longer.header - own.header == more[1] - more[0]
    read, own = text_lengths(spec.replace(source="nobody/has-this-model", target="nobody/has-this-model"))
    assert read == own
    assert own is not None
    assert own.source.endswith("whose data are not on this machine, like the chat template")


def test_a_model_without_a_template_is_refused_in_one_line(folders: PairFolders) -> None:
    assert frozen("llama", 32).chat is None
    with pytest.raises(UserError, match="has no chat template: use --set prompt_format=raw"):
        text_lengths(small_spec(folders, prompt_format="chat"))


PLAIN = "Tom has some apples and gives some of them to his friends who then have more apples than he has now. "
ODD = {
    "cuneiform": "𒀀" * 250,
    "emoji": "😀🧮" * 110,
    "digits": "1234567890" * 26,
    "punctuation": "+-*/=<>;" * 30,
    "asymptote": 'draw((0,0)--(2,7)^^(2,1)..cycle);label("$A_1$",(1,4),NW);' * 5,
    "letters without words": "xqzjvkwh" * 32,
}


def with_odd_texts(folder: Path, odd: str) -> str:
    """Write many plain texts, and among them a question and an answer that have fewer characters and more tokens."""
    folder.mkdir()
    for split in ("train", "test"):
        rows = [{"question": f"{i} {PLAIN * 4}", "answer": f"{PLAIN * (1 + i % 4)}\n#### 3"} for i in range(150)]
        rows[70]["question"], rows[90]["answer"] = f"{odd} how many?", f"{odd}\n#### 3"
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_the_longest_texts_need_not_have_most_characters(folders: PairFolders, odd: str, tmp_path: Path) -> None:
    data = with_odd_texts(tmp_path / "data", odd)
    spec = small_spec(folders, num_fewshot=2, **ALL).replace(task="gsm8k", task_data=data)
    question = f"Question: {odd} how many?\nAnswer:"
    for side in (folders.source, folders.target):
        tokenizer = FrozenLM.load(side).tokenizer
        assert len(question) < len(PLAIN * 4)
        assert len(tokenizer(question)["input_ids"]) > len(tokenizer(PLAIN * 4)["input_ids"])
    check(spec, FrozenLM.load(spec.source), FrozenLM.load(spec.target))


def test_a_prompt_is_longest_with_its_answer_though_neither_is(folders: PairFolders, tmp_path: Path) -> None:
    rows = [{"question": PLAIN * 4, "answer": PLAIN * 4} for _ in range(150)]
    for i in range(60):  # more than are read of each kind
        rows[i]["question"] = rows[60 + i]["answer"] = ODD["digits"] + "7"
    rows[130] = {"question": ODD["digits"], "answer": ODD["digits"]}
    for split in ("train", "test"):
        lines = [json.dumps(row | {"answer": f"{row['answer']}\n#### 3"}) for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    spec = small_spec(folders, **ALL).replace(task="gsm8k", task_data=str(tmp_path))
    check(spec, FrozenLM.load(spec.source), FrozenLM.load(spec.target))


def test_of_too_many_texts_those_are_counted_that_seem_longest(
    folders: PairFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = with_odd_texts(tmp_path / "data", ODD["digits"])
    spec = small_spec(folders, num_fewshot=2, **ALL).replace(task="gsm8k", task_data=data)
    (_, known) = text_lengths(spec)
    monkeypatch.setattr(module, "COUNTED", 0)
    (_, own) = text_lengths(spec)
    assert known is not None
    assert own is not None
    assert known.source == "the longest of 298 texts"
    assert own.source == "the longest of those that seem longest of 298 texts"
    assert (own.prompt, own.answer, own.answered) == (known.prompt, known.answer, known.answered)


def test_no_text_has_more_tokens_than_its_bound() -> None:
    marks = ["क़ख़ग़", "é\u0344", "Å\u0301", "ﷺ", "漢字", "𒀀", "\u1e9b\u0323", "7", "\n \t", "a b", "½"]
    texts = [one * 20 for one in marks] + [one + other for one in marks for other in marks]
    bound = TextSizes.of(texts).bound
    for arch in ("mistral", "llama", "gpt_neox", "qwen2"):
        tokens = [len(ids) for ids in make_tokenizer(arch)(texts, add_special_tokens=False)["input_ids"]]
        assert [text for text, most, least in zip(texts, bound, tokens, strict=True) if least > most] == []


def test_texts_are_found_or_it_is_said_that_others_may_be_longer() -> None:
    """Whatever their tokens are: as many as bytes at most, and unlike the guess."""
    draw, seen = random.Random(0), set()
    for _ in range(60):
        texts = ["x" * draw.randint(1, 400) + "漢" * draw.choice([0, 0, 30]) for _ in range(draw.choice([5, 300]))]
        sizes = TextSizes.of([*texts, *(["word " * 2000] * draw.choice([0, 800]))])
        tokens = np.array([draw.randint(1, most) for most in sizes.bound])
        counted: list[int] = []

        def count(numbers: Any, tokens: Any = tokens, counted: list[int] = counted) -> Any:
            counted.extend(numbers.tolist())
            return tokens[numbers]

        longest = LongestTexts(sizes, count)
        half = len(tokens) // 2
        found = [(longest.find(*part), tokens[slice(*part)].max()) for part in ((0, len(tokens)), (half, len(tokens)))]
        assert len(counted) == len(set(counted))
        assert len(counted) <= 2 * module.FIRST or sizes.bytes[counted].sum() < 2 * module.COUNTED
        if longest.certain:
            assert [tokens[numbers[0]] for numbers, _ in found] == [most for _, most in found]
        seen.add(longest.certain)
    assert seen == {True, False}
