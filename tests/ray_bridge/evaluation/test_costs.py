"""Costs of questions under every condition, against lengths and sizes that are read off the models and rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bridge_common.files import read_json
from bridge_common.metric_names import CONDITIONS
from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.bridge_flops import bridge_flops
from ray_bridge.evaluation.costs import count_costs
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.footprint.flops import answer_flops, forward_flops, kv_bytes
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.shape import shape_of
from ray_bridge.tasks.splits import Splits, load_splits
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders

QUESTIONS = 3


def bench(folders: PairFolders, **changes: Any) -> tuple[ModelPair, Splits, TranslatorModule]:
    spec = small_spec(folders, **({"test_examples": QUESTIONS, "eval_dtype": "as_trained"} | changes))
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    return pair, splits, build_translator(spec, pair.source, pair.target)


def evaluated(
    pair: ModelPair, splits: Splits, translator: TranslatorModule
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    evaluator = Evaluator(pair, Worker(), 64, NodeCache(None))
    samples = evaluator.evaluate(splits.test, translator, CONDITIONS)
    return samples, count_costs(evaluator, translator, splits.test, samples)


def mean(values: Any) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def test_each_condition_counts_what_it_reads_and_writes(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders)
    samples, costs = evaluated(pair, splits, translator)
    items, K = pair.encoder(splits.test), pair.spec.soft_tokens
    asked = [len(item.text_row.prompt) for item in items]
    read = [len(item.source_ids) for item in items]
    wrote = {c: [row[f"{c}_tokens"] for row in samples] for c in CONDITIONS}
    texts = [
        pair.task.answer_text(row["source_alone_output"], e).strip()
        for e, row in zip(splits.test, samples, strict=True)
    ]
    rows = [pair.encoder.text_bridge_row(e, text) for e, text in zip(splits.test, texts, strict=True)]
    shown = [len(row.before) + len(row.prompt) for row in rows]
    prefill = {
        "target_alone": asked,
        "source_alone": read,
        "text_bridge": [a + b for a, b in zip(read, shown, strict=True)],
        "random_soft": [K + n for n in asked],
        "bridged": [K + a + b for a, b in zip(asked, read, strict=True)],
    }
    for condition, tokens in prefill.items():
        assert costs[f"cost/prefill_tokens/{condition}"] == mean(tokens), condition
        assert costs[f"cost/cached_tokens/{condition}"] == 0
    for condition in ("bridged", "target_alone", "source_alone"):
        assert costs[f"cost/decoded_tokens/{condition}"] == mean(wrote[condition])
    both = [a + b for a, b in zip(wrote["source_alone"], wrote["text_bridge"], strict=True)]
    assert costs["cost/decoded_tokens/text_bridge"] == mean(both)


def test_flops_add_up_and_the_source_is_counted_in(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders)
    samples, costs = evaluated(pair, splits, translator)
    items, source, target = pair.encoder(splits.test), shape_of(pair.source), shape_of(pair.target)

    def answers(shape: Any, condition: str, prompts: list[int]) -> list[int]:
        return [answer_flops(shape, n, row[f"{condition}_tokens"]) for n, row in zip(prompts, samples, strict=True)]

    asked = [len(item.text_row.prompt) for item in items]
    read = [len(item.source_ids) for item in items]
    reading = [forward_flops(source, n, layers=pair.spec.source_layer) for n in read]
    assert costs["cost/flops/target_alone"] == mean(answers(target, "target_alone", asked))
    assert costs["cost/flops/source_alone"] == mean(answers(source, "source_alone", read))
    assert costs["cost/source_flops/text_bridge"] == costs["cost/flops/source_alone"]
    assert costs["cost/source_flops/bridged"] == mean(reading)
    with_soft = [n + pair.spec.soft_tokens for n in asked]
    assert costs["cost/target_flops/bridged"] == mean(answers(target, "bridged", with_soft))
    assert costs["cost/flops/random_soft"] == mean(answers(target, "random_soft", with_soft))
    for condition in CONDITIONS:
        parts = [costs[f"cost/{part}_flops/{condition}"] for part in ("source", "target", "bridge")]
        assert costs[f"cost/flops/{condition}"] == pytest.approx(sum(parts), rel=1e-12)
    assert costs["cost/bridge_flops/shuffled_soft"] == costs["cost/bridge_flops/bridged"] > 0
    assert costs["cost/bridge_flops/random_soft"] == costs["cost/source_flops/random_soft"] == 0


def test_bytes_are_those_of_soft_tokens_of_text_and_of_states(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders)
    samples, costs = evaluated(pair, splits, translator)
    spans = [item.question_span for item in pair.encoder(splits.test)]
    assert costs["cost/passed_bytes/bridged"] == pair.spec.soft_tokens * pair.target.hidden_size * 4
    texts = [
        pair.task.answer_text(row["source_alone_output"], e).strip()
        for row, e in zip(samples, splits.test, strict=True)
    ]
    assert costs["cost/passed_bytes/text_bridge"] == mean(len(text.encode()) for text in texts)
    assert costs["cost/state_bytes/bridged"] == mean((b - a) * pair.source.hidden_size * 4 for a, b in spans)
    for condition in ("target_alone", "source_alone", "random_soft"):
        assert costs[f"cost/passed_bytes/{condition}"] == 0
    target = shape_of(pair.target)
    asked = [len(item.text_row.prompt) for item in pair.encoder(splits.test)]
    held = [n + row["target_alone_tokens"] - 1 for n, row in zip(asked, samples, strict=True)]
    assert costs["cost/kv_bytes/target_alone"] == mean(2 * target.layers * 1 * target.head_dim * n * 4 for n in held)
    assert costs["cost/bridge_parameters"] == sum(p.numel() for p in translator.parameters())


def test_a_header_that_is_cached_is_read_from_the_cache(folders: PairFolders) -> None:
    changes = {"num_fewshot": 2, "max_new_tokens": 4}
    inside, before = (bench(folders, **changes, soft_position=place) for place in ("first", "before_question"))
    header = len(before[0].encoder(before[1].test[:1])[0].row.before)
    _, every = evaluated(*inside)
    _, once = evaluated(*before)
    assert once["cost/cached_tokens/bridged"] - every["cost/cached_tokens/bridged"] == header
    assert every["cost/prefill_tokens/bridged"] - once["cost/prefill_tokens/bridged"] == header
    assert once["cost/target_flops/bridged"] < every["cost/target_flops/bridged"]
    assert once["cost/cached_tokens/target_alone"] == every["cost/cached_tokens/target_alone"] == header


@pytest.mark.parametrize("changes", [{"bridge": "dit"}, {"bridge": "dit_xattn"}, {"bridge": "resampler"}])
@pytest.mark.parametrize("geometry", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_lengths_between_two_that_were_counted_are_as_if_counted(
    changes: dict[str, Any], geometry: bool, folders: PairFolders
) -> None:
    pair, splits, translator = bench(folders, **changes, geometry_projection=geometry, test_examples=30)
    items = pair.encoder(splits.test)
    alone = [bridge_flops(pair, translator, [item]) for item in items]
    assert bridge_flops(pair, translator, items) == [one[0] for one in alone if one]
    assert len({tuple(one or ()) for one in alone}) > 2 or changes == {"bridge": "dit"}


def test_flops_of_a_resampler_by_hand(folders: PairFolders) -> None:
    """One block: cross-attention, self-attention and MLP on K slots; S states are projected and read."""
    pair, splits, translator = bench(folders, bridge="resampler", geometry_projection=False)
    (item,) = pair.encoder(splits.test[:1])
    w, K, d_s, d_t = 16, 4, pair.source.hidden_size, pair.target.hidden_size
    S = item.question_span[1] - item.question_span[0]
    products = [m.in_features * m.out_features for m in translator.bridge.modules() if isinstance(m, nn.Linear)]
    assert len(products) == 1 + 2 * 3 + 2 + 1
    cross = S * 2 * w * w + 2 * K * w * w + 2 * K * S * w
    own = K * 2 * w * w + 2 * K * w * w + 2 * K * K * w
    whitening = S * d_s * d_s
    by_hand = 2 * (S * d_s * w + cross + own + K * 8 * w * w + K * w * d_t + whitening)
    assert bridge_flops(pair, translator, [item]) == [by_hand]


def test_adapters_count_for_the_target(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders, injection="adapter")
    _, costs = evaluated(pair, splits, translator)
    assert costs["cost/prefill_tokens/random_soft"] == costs["cost/prefill_tokens/target_alone"]
    assert costs["cost/target_flops/random_soft"] > costs["cost/target_flops/target_alone"]


def test_keys_and_values_before_the_text_are_attended_to_and_held(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders, injection="kv_prefix", bridge="resampler")
    _, costs = evaluated(pair, splits, translator)
    plain = bench(folders, bridge="resampler")
    _, others = evaluated(*plain)
    K = pair.spec.soft_tokens
    assert costs["cost/prefill_tokens/random_soft"] == costs["cost/prefill_tokens/target_alone"]
    assert costs["cost/target_flops/random_soft"] > costs["cost/target_flops/target_alone"]
    kv = kv_bytes(shape_of(pair.target), K, 4)
    alone = kv_bytes(shape_of(pair.target), 1, 4) * (
        costs["cost/prefill_tokens/random_soft"] + costs["cost/decoded_tokens/random_soft"] - 1
    )
    assert costs["cost/kv_bytes/random_soft"] == pytest.approx(alone + kv)
    of_prompt = [costs[f"cost/prompt_kv_bytes/{condition}"] for condition in ("bridged", "target_alone")]
    assert of_prompt[0] == pytest.approx(of_prompt[1] + kv)
    w, d_t, heads = pair.spec.hidden_size, pair.target.hidden_size, shape_of(pair.target)
    of_layers = 2 * K * (d_t * w + 2 * w * w + heads.layers * w * 2 * heads.kv_heads * heads.head_dim)
    assert costs["cost/bridge_flops/bridged"] == pytest.approx(others["cost/bridge_flops/bridged"] + of_layers)


def test_a_fused_cache_passes_the_layers_that_are_read() -> None:
    five_to_four = PairFolders(source="embedded:source", target="embedded:target")
    changes = {"injection": "c2c", "bridge": "c2c", "geometry_projection": False, "max_new_tokens": 4}
    pair, splits, translator = bench(five_to_four, **changes)
    _, costs = evaluated(pair, splits, translator)
    source, tokens = shape_of(pair.source), mean(len(item.alignment.tokens) for item in pair.encoder(splits.test))
    layers = len(translator.injection.writer.layers)
    assert layers < source.layers
    assert costs["cost/passed_bytes/bridged"] == layers * 2 * source.kv_heads * source.head_dim * tokens * 4


def test_learned_tokens_cost_no_source_and_pass_nothing(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders, bridge="constant", geometry_projection=False)
    _, costs = evaluated(pair, splits, translator)
    for name in ("source_flops", "passed_bytes", "state_bytes"):
        assert costs[f"cost/{name}/bridged"] == 0, name
    assert costs["cost/prefill_tokens/bridged"] == costs["cost/prefill_tokens/random_soft"]


def test_a_bridge_that_cannot_be_counted_does_not_end_the_job(
    folders: PairFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, splits, translator = bench(folders)

    def refuse(*_: Any) -> Any:
        raise TypeError("no zeros, please")

    monkeypatch.setattr(type(translator), "forward", refuse)
    with pytest.warns(UserWarning, match="bridge dit_xattn are not counted: TypeError: no zeros"):
        assert bridge_flops(pair, translator, pair.encoder(splits.test)) is None


def test_counting_changes_no_weight(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders)
    before = {name: value.clone() for name, value in translator.state_dict().items()}
    bridge_flops(pair, translator, pair.encoder(splits.test))
    assert all(torch.equal(value, before[name]) for name, value in translator.state_dict().items())


def test_a_job_records_costs_as_metrics_and_timings_apart(finished: Path) -> None:
    metrics = read_json(finished / "metrics.json")
    for condition in CONDITIONS:
        assert metrics[f"cost/flops/{condition}"] > 0
    assert metrics["cost/bridge_bytes"] == (finished / "selected" / "translator.safetensors").stat().st_size
    assert not [name for name in metrics if name.startswith(("cost/seconds", "cost/first_token"))]
