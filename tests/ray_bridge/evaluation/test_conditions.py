"""What conditions give the target: noise of the size of real soft tokens, and baselines decoded once for each key."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.metrics import metrics_of
from ray_bridge.generation.generate import decode_rows
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.splits import Splits, load_splits
from tests.support.model_pairs import PairFolders, save_checkpoint

SIZES: dict[str, Any] = {"train_examples": 4, "validation_examples": 2, "test_examples": 5, "max_new_tokens": 6}
BRIDGE: dict[str, Any] = {"soft_tokens": 4, "hidden_size": 16, "num_heads": 2, "depth": 1, "sampler_steps": 2}
Bench = tuple[ModelPair, Splits]


def bench_of(folders: PairFolders, **changes: Any) -> Bench:
    settings = {"source": folders.source, "target": folders.target, **SIZES, **BRIDGE, **changes}
    spec = tiny(**{"geometry_projection": False, "eval_dtype": "as_trained", **settings})
    splits = load_splits(spec)
    return ModelPair.load(spec, splits, torch.device("cpu")), splits


@pytest.fixture(scope="module")
def bench(folders: PairFolders) -> Bench:
    return bench_of(folders)


def evaluator(pair: ModelPair, cache: Path | None = None) -> Evaluator:
    return Evaluator(pair, Worker(), 64, NodeCache(cache))


def translator_of(pair: ModelPair) -> TranslatorModule:
    """Return a translator that has learned another size than the embeddings' own."""
    translator = build_translator(pair.spec, pair.source, pair.target)
    with torch.no_grad():
        translator.scale.gain.fill_(1.7)
    return translator


def rms(tokens: Tensor) -> Tensor:
    return tokens.pow(2).mean(-1).sqrt()  # (B, K)


def test_random_soft_tokens_have_the_size_of_real_ones(bench: Bench) -> None:
    """Noise of another size would be a weaker or a stronger disturbance than soft tokens are."""
    pair, splits = bench
    translator, items = translator_of(pair), pair.encoder(splits.test)
    real = evaluator(pair).soft(items, translator).tokens
    noise = evaluator(pair)._random_soft(items, translator).tokens
    expected = torch.full(real.shape[:2], 1.7 * pair.target.embedding_rms)
    torch.testing.assert_close(rms(real), expected)
    torch.testing.assert_close(rms(noise), expected)


def test_noise_is_of_the_example_its_purpose_and_the_noise_seed_alone(bench: Bench, folders: PairFolders) -> None:
    pair, splits = bench
    items = pair.encoder(splits.test)

    def noise(purpose: str, which: list[int], of: ModelPair = pair) -> Tensor:
        return evaluator(of)._noise(purpose, [items[i] for i in which])  # (B, K, d_t)

    together = noise("evaluation", [0, 1, 2])
    assert not torch.equal(together[0], together[1]), "each example has noise of its own"
    assert not torch.equal(together[1], together[2])
    assert torch.equal(noise("evaluation", [2]), together[2:]), "whatever batch it is in"
    assert not torch.equal(noise("random soft", [0]), together[:1])
    other, _ = bench_of(folders, noise_seed=1)
    assert not torch.equal(noise("evaluation", [0], other), together[:1])


def test_soft_tokens_of_two_examples_differ_by_their_noise(bench: Bench) -> None:
    """The same question under two ids: the source reads the same, the noise differs, and so do the soft tokens."""
    pair, splits = bench
    translator = translator_of(pair)
    with torch.no_grad():
        for number, parameter in enumerate(translator.parameters()):
            draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(0.1 * draw)
    one, other = pair.encoder([splits.test[0], splits.test[0].__class__(**{**vars(splits.test[0]), "id": "other"})])
    tokens = evaluator(pair).soft([one, other], translator).tokens
    assert not torch.allclose(tokens[0], tokens[1])


def test_a_baseline_is_decoded_once_for_each_model_dtype_and_length(
    bench: Bench, folders: PairFolders, tmp_path: Path
) -> None:
    """All trials of a node share a cache: outputs of another model, precision or length would be taken for these."""

    def outputs(pair: ModelPair, splits: Splits) -> list[Any]:
        return [row["target_alone_output"] for row in evaluator(pair, tmp_path).evaluate(splits.test, None, ALONE)]

    def files() -> int:
        return len(list(tmp_path.glob("target_alone-*.jsonl")))

    ALONE = ["target_alone"]
    pair, splits = bench
    first = outputs(pair, splits)
    assert outputs(pair, splits) == first
    assert files() == 1
    longer = outputs(*bench_of(folders, max_new_tokens=9))
    assert files() == 2
    assert longer != first
    double = bench_of(folders, eval_dtype="float64")
    outputs(double[0].for_evaluation(), double[1])
    assert files() == 3
    save_checkpoint(tmp_path / "another", "llama", width=32, seed=7)
    another = outputs(*bench_of(PairFolders(source=folders.source, target=str(tmp_path / "another"))))
    assert files() == 4
    assert another != first
    outputs(*bench_of(folders, test_examples=3))
    assert files() == 5, "other rows"


def test_what_the_source_writes_is_decoded_once_for_each_end(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stop text or an id: a text that went on after its end would be taken for one that ended there."""
    pair, splits = bench
    rows = [pair.encoder.source_row(item) for item in pair.encoder(splits.test[:2])]

    def files(*stops: str) -> int:
        evaluator(pair, tmp_path).written_by_source("text_bridge", rows, 4, stops)
        return len(list(tmp_path.glob("source_of_text_bridge-*.jsonl")))

    assert [files("\n"), files("\n"), files("\n", "."), files("\n")] == [1, 1, 2, 2]
    monkeypatch.setattr(pair.source, "ends", pair.source.ends | {5})
    assert files("\n") == 3


def test_the_share_of_answers_at_the_limit_is_that_of_those_which_nothing_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of white space alone counts once something stands before it, and an end at the very last token is an end."""
    pair, splits = bench
    (whole,) = evaluator(pair).evaluate(splits.test[:1], None, ["target_alone"])
    text, limit = whole["target_alone_output"], pair.spec.max_new_tokens
    assert whole["target_alone_truncated"] is True
    assert whole["target_alone_tokens"] == limit
    monkeypatch.setattr(pair.task, "stops", (text[-1], "never written"))
    samples = evaluator(pair).evaluate(splits.test, None, ["source_alone", "target_alone"])
    for condition, lm in (("source_alone", pair.source), ("target_alone", pair.target)):
        for row in samples:
            rows = {
                "source_alone": pair.encoder.source_row,
                "target_alone": lambda item: item.text_row.without_answer(),
            }
            (item,) = pair.encoder([e for e in splits.test if e.id == row["id"]])
            (ids,) = decode_rows(lm, [rows[condition](item)], None, limit)
            ended = text[-1] in lm.tokenizer.decode(ids, skip_special_tokens=True) or bool(lm.ends & set(ids))
            assert row.get(f"{condition}_truncated", False) is not ended
    at_the_limit = [bool(row.get("target_alone_truncated")) for row in samples]
    assert at_the_limit[0] is False
    metrics = metrics_of(samples, ["source_alone", "target_alone"], [])
    assert metrics["truncated/target_alone"] == sum(at_the_limit) / 5


def test_the_share_of_answers_at_the_limit_is_counted_for_each_condition() -> None:
    at_the_limit = {"bridged": (True, False, True, True), "target_alone": (False, False, True, False)}
    samples: list[dict[str, Any]] = [{} for _ in range(4)]
    for name, marks in at_the_limit.items():
        for row, mark in zip(samples, marks, strict=True):
            row.update({f"{name}_{verdict}": False for verdict in ("correct", "flexible", "valid")})
            row.update({f"{name}_tokens": 8} | ({f"{name}_truncated": True} if mark else {}))
    metrics = metrics_of(samples, list(at_the_limit), [])
    assert {name: metrics[f"truncated/{name}"] for name in at_the_limit} == {"bridged": 0.75, "target_alone": 0.25}
