"""Cache-to-Cache: which tokens and layers are fused, what closed gates leave, what the target then reads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bridge_common.errors import UserError
from ray_bridge.bridges.c2c import CacheFuser
from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.inference.translator import Translator
from ray_bridge.inputs.source_cache import cache_width, covering_tokens, layer_cache_width
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.row_prefix import read_rows
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.token_alignment import TokenAlignment
from ray_bridge.objectives.forward_passes import ForwardPasses
from ray_bridge.objectives.objective import backward, objective_terms
from ray_bridge.objectives.step_context import StepContext
from ray_bridge.tasks.splits import Splits
from tests.support.cache_injections import bench, step_of
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.model_pairs import PairFolders

FUSED: dict[str, Any] = {"bridge": "c2c", "injection": "c2c", "geometry_projection": False}
Bench = tuple[ModelPair, Splits, TranslatorModule]


@pytest.fixture(scope="module")
def made(folders: PairFolders) -> Bench:
    return bench(folders, **FUSED)


def fuser(translator: TranslatorModule) -> CacheFuser:
    writer = translator.injection.writer
    assert isinstance(writer, CacheFuser)
    return writer


def test_a_target_token_is_aligned_with_the_source_token_that_covers_most_of_it() -> None:
    alignment = TokenAlignment(
        source_span=(0, 4), tokens=np.array([3, 4], np.int32), bytes=np.ones(2, np.float32),
        row=np.array([0, 0, 1, 1], np.int32), column=np.array([0, 1, 2, 3], np.int32),
        share=np.array([0.3, 0.7, 0.5, 0.5], np.float32),
    )  # fmt: skip
    assert covering_tokens(alignment).tolist() == [1, 2], "the first of equals"


def test_the_bridge_reads_the_sources_cache_of_the_aligned_tokens(made: Bench) -> None:
    pair, splits, _ = made
    items = pair.encoder(splits.train[:3])
    batch = pair.read_source(items)
    assert batch.states.shape[-1] == cache_width(pair.source)
    for i, item in enumerate(items):
        assert item.alignment is not None
        keys, values, _ = read_rows(pair.source, [item.source_ids])
        chosen = covering_tokens(item.alignment)
        assert int(batch.mask[i].sum()) == len(item.alignment.tokens) == len(chosen)
        for t in (0, len(chosen) - 1):
            at = item.question_span[0] + int(chosen[t])
            own = [
                part[layer][0, :, at].flatten() for layer in range(pair.source.num_layers) for part in (keys, values)
            ]
            torch.testing.assert_close(batch.states[i, t], torch.cat(own), rtol=1e-9, atol=1e-9)


def test_a_fuser_with_closed_gates_leaves_the_target_as_it_is_alone(made: Bench) -> None:
    pair, splits, trained = made
    fresh = build_translator(pair.spec, pair.source, pair.target).double()
    with torch.no_grad():
        fuser(fresh).gates.fill_(-60.0)
    names = ["bridged", "shuffled_soft", "random_soft", "target_alone"]
    rows = Evaluator(pair, Worker(), 5, NodeCache(None)).evaluate(splits.test, fresh, names)
    assert all(row[f"{name}_output"] == row["target_alone_output"] for row in rows for name in names)
    together = Evaluator(pair, Worker(), 5, NodeCache(None)).evaluate(splits.test, trained, names)
    texts = {name: tuple(row[f"{name}_output"] for row in together) for name in names}
    assert len(set(texts.values())) == 4, "after training each condition is one of its own"
    single = Evaluator(pair, Worker(), 1, NodeCache(None)).evaluate(splits.test, trained, names)
    for name in names:
        assert tuple(row[f"{name}_output"] for row in single) == texts[name], "texts do not depend on the batch"


def test_answers_are_read_after_the_fused_cache_as_transformers_reads_them(made: Bench) -> None:
    """By hand: the target's cache of the prompt but its last token, changed at the question's tokens, then the rest."""
    from transformers import DynamicCache

    pair, splits, translator = made
    step = step_of(pair, splits, translator)
    hidden, writer = step.student_hidden, fuser(translator)
    for i, item in enumerate(step.items):
        row = item.row
        prompt = row.before + row.prompt
        keys, values, _ = read_rows(pair.target, [prompt[:-1]])
        first, last = len(row.before) + row.span[0], len(row.before) + row.span[1]
        cache = DynamicCache()
        for layer in range(pair.target.num_layers):
            parts = [x[layer] for x in (keys, values)]
            own = [x[:, :, first:last].transpose(1, 2).flatten(2) for x in parts]
            changes = writer.changes(layer, own, step.source.states[i : i + 1, : last - first])
            for x, change in zip(parts, changes, strict=True):
                x[:, :, first:last] += change.unflatten(-1, (x.shape[1], -1)).transpose(1, 2)
            cache.update(*parts, layer)
        rest = prompt[-1:] + row.answer
        own_logits = pair.target.model(
            input_ids=torch.tensor([rest]), past_key_values=cache, use_cache=True,
            attention_mask=torch.ones(1, len(prompt) - 1 + len(rest), dtype=torch.long),
            position_ids=torch.arange(len(prompt) - 1, len(prompt) - 1 + len(rest))[None],
        ).logits[0]  # fmt: skip
        ours = pair.target.logits(hidden[i, : len(rest)])
        torch.testing.assert_close(ours, own_logits, rtol=1e-8, atol=1e-8)
    assert step.student.answers.ids == [tuple(item.row.answer) for item in step.items]


def test_inputs_padded_as_on_a_gpu_change_nothing(made: Bench) -> None:
    pair, splits, translator = made
    step = step_of(pair, splits, translator)
    passes = ForwardPasses(translator, pair.target, graphed=True, recompute_above=0)
    padded = StepContext(pair.spec, pair.target, translator, step.source, step.step_key, step.worker, passes)
    assert padded.soft.shape[1] > step.soft.shape[1]
    hidden = padded.student_hidden[:, : step.student_hidden.shape[1]]
    torch.testing.assert_close(hidden, step.student_hidden, rtol=1e-9, atol=1e-9)


def test_layers_are_aligned_from_the_last_and_the_others_are_left(folders: PairFolders, tmp_path: Path) -> None:
    from tests.support.model_pairs import save_checkpoint

    deep = save_checkpoint(tmp_path / "deep", "llama", depth=5)
    pair, splits, translator = bench(PairFolders(source=folders.source, target=str(deep)), **FUSED)
    items = pair.encoder(splits.train[:2])
    rows = [item.row.without_answer() for item in items]
    source = pair.read_source(items)
    written = fuser(translator)(pair.target, rows, translator.context(source, source.states))
    plain = read_rows(pair.target, [(row.before + row.prompt)[:-1] for row in rows])
    changed = [bool((a - b).abs().max() > 1e-6) for a, b in zip(written.prefix.keys, plain[0], strict=True)]
    assert changed == [False, False, True, True, True]
    width, layers = layer_cache_width(pair.source), pair.source.num_layers
    own = [torch.randn(1, 1, fuser(translator).own, dtype=torch.float64)] * 2
    cache = torch.randn(1, 1, layers, 2, width, dtype=torch.float64)
    for fused in range(3):  # the fused layer reads its own counterpart and no other
        before = fuser(translator).changes(fused, own, cache.flatten(2))
        for other in range(layers):
            moved = cache.clone()
            moved[:, :, other] += 1.0 * torch.randn(2, width, dtype=torch.float64)
            after = fuser(translator).changes(fused, own, moved.flatten(2))
            assert bool((after[0] - before[0]).abs().max() > 1e-6) == (other == fused)
        for part in range(2):  # keys change keys, and values change values
            moved = cache.clone()
            moved[:, :, fused, part] += torch.randn(width, dtype=torch.float64)
            after = fuser(translator).changes(fused, own, moved.flatten(2))
            assert [bool((a - b).abs().max() > 1e-6) for a, b in zip(after, before, strict=True)] == [
                part == 0,
                part == 1,
            ]


def test_a_change_is_in_units_of_the_targets_own_keys_and_values(made: Bench) -> None:
    """Layers differ in size by orders of magnitude; the size of the source's says nothing about the target's."""
    writer = fuser(made[2])
    own = [torch.randn(1, 2, writer.own, dtype=torch.float64) for _ in range(2)]
    cache = torch.randn(1, 2, writer.source_layers * 2 * writer.other, dtype=torch.float64)
    for change, larger in zip(
        writer.changes(0, own, cache), writer.changes(0, [1e3 * x for x in own], 1e3 * cache), strict=True
    ):
        torch.testing.assert_close(larger, 1e3 * change, rtol=1e-3, atol=float(change.detach().abs().mean()))


def test_the_random_cache_differs_from_example_to_example(made: Bench) -> None:
    pair, splits, translator = made
    items = pair.encoder(splits.test[:2])
    context = Evaluator(pair, Worker(), 2, NodeCache(None))._random_soft(items, translator)
    units = context.tokens / context.tokens.pow(2).mean(-1, keepdim=True).sqrt()  # (2, T, C)
    assert (units[0, :3] - units[1, :3]).abs().max() > 0.1
    again = Evaluator(pair, Worker(), 1, NodeCache(None))._random_soft(items[1:], translator).tokens[0]
    count = int(pair.read_source(items).mask[1].sum())
    torch.testing.assert_close(again[:count], context.tokens[1, :count], rtol=1e-9, atol=1e-9)


def test_the_random_cache_has_the_size_of_the_sources(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values of another size would disturb the target more, or less, than the source's do."""
    pair, splits, translator = made
    items = pair.encoder(splits.test[:2])
    source = pair.read_source(items)
    larger = replace(source, states=10 * source.states)  # the small model's own are about 1
    monkeypatch.setattr(ModelPair, "read_source", lambda pair, items: larger)
    noise = Evaluator(pair, Worker(), 2, NodeCache(None))._random_soft(items, translator).tokens
    sizes = [cache.pow(2).mean(-1).sqrt()[source.mask.bool()] for cache in (noise, larger.states)]
    torch.testing.assert_close(*sizes, rtol=0.3, atol=0)


def test_gates_weigh_the_change_and_tokens_that_are_not_there_change_nothing(made: Bench) -> None:
    pair, splits, translator = made
    items = pair.encoder(splits.train[:2])
    rows = [item.row.without_answer() for item in items]
    source = pair.read_source(items)
    context = translator.context(source, source.states)
    plain = read_rows(pair.target, [(row.before + row.prompt)[:-1] for row in rows])[0][-1]
    whole = fuser(translator)(pair.target, rows, context).prefix.keys[-1] - plain
    gate = fuser(translator).gates
    before = gate.detach().clone()
    with torch.no_grad():
        gate[-1] = -60.0
    closed = fuser(translator)(pair.target, rows, context).prefix.keys[-1] - plain
    with torch.no_grad():
        gate.copy_(before)
    assert closed.abs().max() < 1e-12 < whole.abs().max()
    assert context.mask is not None
    none = SoftContext(tokens=context.tokens, mask=torch.zeros_like(context.mask), writer=context.writer)
    assert torch.equal(fuser(translator)(pair.target, rows, none).prefix.keys[-1], plain)
    first = [len(row.before) + row.span[0] for row in rows]
    for i, row in enumerate(rows):
        outside = [p for p in range(whole.shape[2]) if not first[i] <= p < first[i] + row.span[1] - row.span[0]]
        assert whole[i, :, outside].abs().max() == 0, "only the question's tokens are fused"


def test_every_parameter_learns_and_terms_on_soft_tokens_are_absent(made: Bench) -> None:
    pair, splits, translator = made
    terms = objective_terms(pair.spec)
    assert [term.name for term in terms] == ["answer_nll", "answer_kl"]
    step = step_of(pair, splits, translator)
    backward(step, terms, [p for p in translator.parameters() if p.requires_grad])
    for name, parameter in translator.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.slow
def test_a_trained_one_is_loaded_and_answers_as_recorded(folders: PairFolders, tmp_path: Path) -> None:
    changes = {"decode_aware": True, "decode_questions": 1, "decode_samples": 2, "steps": 4, "test_examples": 4}
    spec = small_spec(folders, **FUSED, **changes, learning_rate=0.02)
    trial = finish_trial(spec, tmp_path / "trial")
    translator = Translator.load(trial)
    rows = translator.saved.samples
    answers = translator.generate([str(row["question"]) for row in rows])
    assert [answer.text for answer in answers] == [row["bridged_output"] for row in rows]
    metrics = translator.saved.record["metrics"]
    assert metrics["cost/bridge_flops/bridged"] > 0
    tokens = [len(item.alignment.tokens) for item in translator.pair.encoder(translator.splits.test) if item.alignment]
    passed = cache_width(translator.pair.source) * 4 * sum(tokens) / len(tokens)
    assert metrics["cost/passed_bytes/bridged"] == pytest.approx(passed)
    with pytest.raises(UserError, match="bridge=c2c makes no soft tokens"):
        translator.soft_tokens(str(rows[0]["question"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bridge": "c2c"}, "bridge c2c and injection c2c belong together"),
        ({"injection": "c2c"}, "bridge c2c and injection c2c belong together"),
        ({"bridge": "c2c", "injection": "c2c"}, "bridge c2c reads the source's cache: set geometry_projection=false"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**changes)
