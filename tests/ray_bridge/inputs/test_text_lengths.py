"""Lengths before a job starts are those of the rows that its encoder makes: of text, and of every chat template."""

from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import paper, tiny
from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.rows import Row
from ray_bridge.inputs.text_lengths import LONGEST, text_lengths
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import load_splits
from tests.support.chat_tokenizers import STYLES, chat_lm, save_chat_pair
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders, frozen

SIZES: dict[str, Any] = {"train_examples": 12, "validation_examples": 3, "test_examples": 6}


def positions(row: Row) -> int:
    return len(row.before) + len(row.prompt)


def check(spec: JobSpec, source: FrozenLM, target: FrozenLM) -> None:
    """Compare the lengths of a job with the rows of its encoder."""
    splits = load_splits(spec)
    encoder = ModelPair.of(spec, splits, source, target).encoder
    supervised = [*splits.train, *splits.validation]
    examples = [*supervised, *splits.test]
    assert len(examples) <= LONGEST  # all are counted
    read, own = text_lengths(spec)
    assert read is not None
    assert own is not None
    assert read.measured
    assert own.measured
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
