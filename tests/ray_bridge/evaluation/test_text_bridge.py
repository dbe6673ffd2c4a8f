"""The control in which the source's words, not its states, reach the target."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bridge_common.files import read_jsonl, write_jsonl
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.rows import Row
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.splits import Splits, load_splits
from tests.support.chat_tokenizers import save_chat_pair
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders

Bench = tuple[ModelPair, Splits]


@pytest.fixture(scope="module", params=[0, 1])
def bench(request: Any, folders: PairFolders) -> Bench:
    sizes = {"train_examples": 4, "validation_examples": 2, "test_examples": 5, "max_new_tokens": 6}
    spec = tiny(source=folders.source, target=folders.target, num_fewshot=request.param, **sizes)
    splits = load_splits(spec)
    return ModelPair.load(spec, splits, torch.device("cpu")), splits


def evaluator(pair: ModelPair, cache: Path | None = None) -> Evaluator:
    return Evaluator(pair, Worker(), 64, NodeCache(cache))


def test_the_target_reads_the_question_and_what_the_source_wrote(bench: Bench) -> None:
    pair, splits = bench
    samples = evaluator(pair).evaluate(splits.test, None, ["source_alone", "text_bridge"])
    assert len({row["source_alone_output"] for row in samples}) > 1
    exemplars = splits.task.train()[: pair.spec.num_fewshot]
    header = "".join(
        f"Question: {e.question}\nAnother reader's answer: {e.answer}\nAnswer: {e.answer}\n\n" for e in exemplars
    )
    for example, row in zip(splits.test, samples, strict=True):
        written = row["source_alone_output"].split("\nQuestion:")[0].strip()
        text = header + f"Question: {example.question}\nAnother reader's answer: {written}\nAnswer:"
        ids = (pair.target.bos, *pair.target.tokenizer(text, add_special_tokens=False)["input_ids"])
        (tokens,) = decode_rows(pair.target, [Row(before=ids, prompt=())], None, 6)
        assert row["text_bridge_output"] == Stopping.of(pair.target, pair.task.stops).text(tokens)


def test_an_exemplar_that_the_source_made_up_is_not_pasted(bench: Bench, tmp_path: Path) -> None:
    pair, splits = bench
    examples = splits.test[:2]
    outputs = []
    for folder, text in (("plain", "It is 4."), ("rambling", " It is 4.\nQuestion: And 5?\nAnswer: 6")):
        cached = evaluator(pair, tmp_path / folder)
        cached.evaluate(examples, None, ["source_alone"])
        (path,) = (tmp_path / folder).glob("source_alone-*.jsonl")
        write_jsonl(path, [row | {"text": text} for row in read_jsonl(path)])
        outputs.append([row["text_bridge_output"] for row in cached.evaluate(examples, None, ["text_bridge"])])
        names = {path.name for path in (tmp_path / folder).glob("text_bridge-*.jsonl")}  # what was read names the file
        outputs.append(sorted(names))
    assert outputs[0] == outputs[2]
    assert outputs[1] == outputs[3]


def test_it_stands_alone_and_is_decoded_once(bench: Bench, tmp_path: Path) -> None:
    pair, splits = bench
    both = evaluator(pair, tmp_path).evaluate(splits.test, None, ["source_alone", "text_bridge"])
    (path,) = tmp_path.glob("text_bridge-*.jsonl")
    alone = evaluator(pair, tmp_path).evaluate(splits.test, None, ["text_bridge"])
    assert [row["text_bridge_output"] for row in alone] == [row["text_bridge_output"] for row in both]
    write_jsonl(path, [row | {"text": "#### 1"} for row in read_jsonl(path)])
    again = evaluator(pair, tmp_path).evaluate(splits.test, None, ["text_bridge"])
    assert {row["text_bridge_output"] for row in again} == {"#### 1"}


def test_a_written_answer_is_cut_where_the_context_would_not_hold_it(folders: PairFolders) -> None:
    spec = small_spec(folders)
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    evaluator = Evaluator(pair, Worker(), 4, NodeCache(None))
    example, written = splits.test[0], "one two three " * 200
    whole = evaluator.text_bridge_row(example, written)
    pair.target.context = len(whole.prompt) // 2
    row = evaluator.text_bridge_row(example, written)
    assert 0 < pair.target.context - spec.max_new_tokens - len(row.prompt) < len(whole.prompt) // 4
    assert evaluator.text_bridge_row(example, "one") == pair.encoder.text_bridge_row(example, "one")


@pytest.mark.parametrize("limit", [None, 3, 9])
def test_whatever_the_context_the_row_fits_into_it_with_its_answer(folders: PairFolders, limit: int | None) -> None:
    spec = small_spec(folders)
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    evaluator = Evaluator(pair, Worker(), 4, NodeCache(None))
    evaluator.answer_limit = limit
    new, example, written = limit or spec.max_new_tokens, splits.test[0], "one two three four"
    whole = evaluator.text_bridge_row(example, written)
    needed = len(whole.before) + len(whole.prompt) + new
    assert whole.before  # BOS
    for context in range(needed - 4, needed + 2):
        pair.target.context = context
        row = evaluator.text_bridge_row(example, written)
        assert (row == whole) == (context >= needed)
        decode_rows(pair.target, [row], None, new)  # does not end in TooLongError


def test_the_opening_of_a_conversation_counts(tmp_path: Path) -> None:
    folders = save_chat_pair(tmp_path, "llama", "qwen")
    spec = small_spec(folders, prompt_format="chat")
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    evaluator = Evaluator(pair, Worker(), 4, NodeCache(None))
    whole = evaluator.text_bridge_row(splits.test[0], "one two three four")
    assert len(whole.before) > 3  # the system's turn
    pair.target.context = len(whole.before) + len(whole.prompt) + spec.max_new_tokens - 1
    decode_rows(pair.target, [evaluator.text_bridge_row(splits.test[0], "one two three four")], None, 6)
