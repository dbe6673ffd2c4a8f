"""Baselines at a number of tokens: what the target reads, what that costs, and that it is decoded once."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge_common.files import read_json, read_jsonl, write_jsonl
from bridge_common.metric_names import CONDITIONS, budget_of, budgeted
from ray_bridge import fingerprint
from ray_bridge.bridges.translator import build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.costs import count_costs
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.text_budgets import first_tokens
from ray_bridge.footprint.flops import answer_flops, kv_bytes
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.rows import Row
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.shape import shape_of
from ray_bridge.tasks.splits import Splits, load_splits
from ray_bridge.tasks.task import SUMMARY_CUE, Example, summary_prompt
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders, make_tokenizer

NEW, BUDGET = 6, 5
Bench = tuple[ModelPair, Splits]


@pytest.fixture(scope="module")
def bench(folders: PairFolders) -> Bench:
    spec = small_spec(folders, num_fewshot=1, test_examples=5, max_new_tokens=NEW, eval_dtype="as_trained")
    splits = load_splits(spec)
    return ModelPair.load(spec, splits, torch.device("cpu")), splits


def evaluator(pair: ModelPair, cache: Path | None = None) -> Evaluator:
    return Evaluator(pair, Worker(), 64, NodeCache(cache))


def written(lm: FrozenLM, text: str, most: int, stops: tuple[str, ...]) -> str:
    ids = (lm.bos, *lm.tokenizer(text, add_special_tokens=False)["input_ids"])
    (tokens,) = decode_rows(lm, [Row(before=(), prompt=ids)], None, most, stops=stops)
    return Stopping.of(lm, stops).text(tokens)


def count(pair: ModelPair, text: str) -> int:
    return len(pair.target.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_the_target_reads_the_beginning_of_the_question(bench: Bench) -> None:
    pair, splits = bench
    samples = evaluator(pair).evaluate(splits.test, None, ["target_alone", "question_cut_5", "question_cut_500"])
    for example, row in zip(splits.test, samples, strict=True):
        cut = first_tokens(pair.target.tokenizer, example.question, BUDGET)
        assert example.question.startswith(cut)
        assert count(pair, cut) == BUDGET
        text = f"{splits.header}Question: {cut}\nAnswer:"
        assert row["question_cut_5_output"] == written(pair.target, text, NEW, pair.task.stops)
        assert row["question_cut_500_output"] == row["target_alone_output"]
    assert any(row["question_cut_5_output"] != row["target_alone_output"] for row in samples)


def test_the_target_reads_the_sources_summary_instead_of_the_question(bench: Bench) -> None:
    pair, splits = bench
    samples = evaluator(pair).evaluate(splits.test, None, ["source_summary_5"])
    summaries = set()
    for example, row in zip(splits.test, samples, strict=True):
        summary = written(pair.source, f"Question: {example.question}\nNumerals:", BUDGET, ("\n", *pair.task.stops))
        shown = first_tokens(pair.target.tokenizer, summary.strip(), BUDGET)
        assert count(pair, shown) <= BUDGET
        text = f"{splits.header}Question: {shown}\nAnswer:"
        assert row["source_summary_5_output"] == written(pair.target, text, NEW, pair.task.stops)
        summaries.add(shown)
    assert len(summaries) > 1


def test_a_limit_on_answers_leaves_what_the_source_writes(bench: Bench) -> None:
    pair, splits = bench
    names = ["source_summary_5", "text_bridge_3"]
    whole, first = evaluator(pair), evaluator(pair)
    first.answer_limit = 1
    whole.evaluate(splits.test, None, names)
    samples = first.evaluate(splits.test, None, names)
    assert {row[f"{name}_tokens"] for row in samples for name in names} == {1}
    assert first.source_texts == whole.source_texts
    assert max(first.source_texts["text_bridge_3"].tokens) == 3


def test_the_target_reads_the_beginning_of_the_sources_answer(bench: Bench) -> None:
    pair, splits = bench
    names = ["source_alone", "text_bridge", "text_bridge_3", "text_bridge_500"]
    samples = evaluator(pair).evaluate(splits.test, None, names)
    for example, row in zip(splits.test, samples, strict=True):
        answer = pair.task.answer_text(
            written(pair.source, f"{splits.header}Question: {example.question}\nAnswer:", 3, pair.task.stops), example
        ).strip()
        shown = first_tokens(pair.target.tokenizer, answer, 3)
        text = pair.encoder.written_header + f"Question: {example.question}\nAnother reader's answer: {shown}\nAnswer:"
        assert row["text_bridge_3_output"] == written(pair.target, text, NEW, pair.task.stops)
        assert row["text_bridge_500_output"] == row["text_bridge_output"]


def test_each_number_of_tokens_is_decoded_once(bench: Bench, tmp_path: Path) -> None:
    pair, splits = bench
    first = evaluator(pair, tmp_path)
    first.evaluate(splits.test, None, budgeted([3, 5]))
    names = sorted(path.name.rpartition("-")[0] for path in tmp_path.glob("*.jsonl"))
    of_source = [f"source_of_{kind}_{k}" for kind in ("source_summary", "text_bridge") for k in (3, 5)]
    assert names == sorted([*budgeted([3, 5]), *of_source])
    assert first.source_texts["source_summary_3"].seconds is not None
    for path in tmp_path.glob("question_cut_3-*.jsonl"):
        write_jsonl(path, [row | {"text": "#### 1"} for row in read_jsonl(path)])
    second = evaluator(pair, tmp_path)
    again = second.evaluate(splits.test, None, budgeted([3, 5]))
    assert {row["question_cut_3_output"] for row in again} == {"#### 1"}
    assert second.source_texts["source_summary_3"].seconds is None


def test_costs_count_what_the_source_wrote(bench: Bench) -> None:
    pair, splits = bench
    translator, own = build_translator(pair.spec, pair.source, pair.target), evaluator(pair)
    samples = own.evaluate(splits.test, translator, [*CONDITIONS, *budgeted([BUDGET])])
    costs = count_costs(own, translator, splits.test, samples)
    target, source = shape_of(pair.target), shape_of(pair.source)

    def mean(values: list[int]) -> float:
        return sum(values) / len(values)

    for kind in ("source_summary_5", "text_bridge_5"):
        wrote = own.source_texts[kind]
        assert costs[f"cost/passed_bytes/{kind}"] == mean([len(text.encode()) for text in wrote.texts])
        reading = [answer_flops(source, s.read, n, s.cached) for s, n in zip(wrote.sizes, wrote.tokens, strict=True)]
        assert costs[f"cost/source_flops/{kind}"] == mean(reading)
        assert max(wrote.tokens) <= BUDGET
    assert costs["cost/source_flops/question_cut_5"] == costs["cost/passed_bytes/question_cut_5"] == 0
    assert costs["cost/source_flops/text_bridge_5"] < costs["cost/source_flops/text_bridge"]
    items = pair.encoder(splits.test)
    prompts = [len(item.text_row.prompt) for item in items]
    assert costs["cost/prompt_kv_bytes/target_alone"] == mean([kv_bytes(target, n, 4) for n in prompts])
    with_soft = [kv_bytes(target, n + pair.spec.soft_tokens, 4) for n in prompts]
    assert costs["cost/prompt_kv_bytes/bridged"] == mean(with_soft)
    assert costs["cost/prompt_kv_bytes/source_alone"] == 0
    cuts = [first_tokens(pair.target.tokenizer, example.question, BUDGET) for example in splits.test]
    rows = [pair.encoder.question_row(example, cut) for example, cut in zip(splits.test, cuts, strict=True)]
    kept = [kv_bytes(target, len(row.prompt), 4) for row in rows]
    assert costs["cost/prompt_kv_bytes/question_cut_5"] == mean(kept) < costs["cost/prompt_kv_bytes/target_alone"]


def test_a_job_measures_its_budgets_under_the_same_fingerprint(folders: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(folders, steps=2, eval_every=2, test_examples=4)
    with_budgets = spec.replace(text_budgets="3,5")
    assert with_budgets.text_budgets == (3, 5)
    assert fingerprint(with_budgets) == fingerprint(spec)
    for name, one in (("without", spec), ("with", with_budgets)):
        run_job(one, tmp_path / name)
    samples, metrics = read_jsonl(tmp_path / "with" / "samples.jsonl"), read_json(tmp_path / "with" / "metrics.json")
    plain = read_jsonl(tmp_path / "without" / "samples.jsonl")
    assert [{name: row[name] for name in bare} for row, bare in zip(samples, plain, strict=True)] == plain
    more = set(samples[0]) - set(plain[0])
    assert {name.rsplit("_", 1)[0] for name in more if name.endswith("_correct")} == set(budgeted([3, 5]))
    assert {f"accuracy/{name}" for name in budgeted([3, 5])} <= metrics.keys()


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40), tokens=st.integers(1, 30), arch=st.sampled_from(["mistral", "llama", "gpt_neox"]))
def test_a_cut_text_is_a_beginning_of_at_most_so_many_tokens(text: str, tokens: int, arch: str) -> None:
    tokenizer = make_tokenizer(arch)  # type: ignore[arg-type]
    cut = first_tokens(tokenizer, text, tokens)
    assert text.startswith(cut)
    assert len(tokenizer(cut, add_special_tokens=False)["input_ids"]) <= tokens
    if len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= tokens:
        assert cut == text


def test_names_of_conditions_at_a_number_of_tokens() -> None:
    assert [budget_of(name) for name in ("text_bridge_64", "text_bridge", "bridged_64", "question_cut_x")] == [
        ("text_bridge", 64), None, None, None,
    ]  # fmt: skip


def test_how_a_source_is_asked_for_a_summary(bench: Bench) -> None:
    _, splits = bench
    example = Example(id="q", index=0, question="Why?", answer="", gold="")
    assert summary_prompt(splits.task, example, 8) == "Question: Why?\nNumerals:"

    class Other:
        name = "other"

    asked = summary_prompt(Other(), example, 8)  # type: ignore[arg-type]
    assert asked == "Question: Why?" + SUMMARY_CUE.replace("{tokens}", "8")
    assert "at most 8 tokens" in asked
