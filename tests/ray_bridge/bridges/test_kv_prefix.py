"""Keys and values in every layer: the target reads them as transformers does, alone or in a batch, and they learn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge_common.errors import UserError
from ray_bridge.bridges.kv_prefix import LENGTH, ROWS, KVPrefix
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.inference.translator import Translator
from ray_bridge.inputs.layout import assemble
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.row_prefix import read_rows
from ray_bridge.objectives.decode_aware import DecodeAware
from ray_bridge.objectives.forward_passes import ForwardPasses
from ray_bridge.objectives.objective import backward, objective_terms
from ray_bridge.objectives.policy_gradient import token_losses
from ray_bridge.tasks.splits import Splits
from tests.support.cache_injections import bench, step_of
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.model_pairs import PairFolders, frozen

Bench = tuple[ModelPair, Splits, TranslatorModule]


@pytest.fixture(scope="module")
def made(folders: PairFolders) -> Bench:
    return bench(folders, bridge="resampler", injection="kv_prefix")


def by_transformers(pair: ModelPair, translator: TranslatorModule, soft: Tensor, ids: tuple[int, ...]) -> Tensor:
    """Logits (L, V) of a text after the keys and values of one row, by transformers' model itself."""
    from transformers import DynamicCache

    writer = translator.injection.writer
    assert isinstance(writer, KVPrefix)
    cache = DynamicCache()
    for layer, (k, v) in enumerate(zip(*writer.keys_values(soft[None]), strict=True)):
        cache.update(k, v, layer)
    L, K = len(ids), len(soft)
    return pair.target.model(
        input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True,
        attention_mask=torch.ones(1, K + L, dtype=torch.long), position_ids=torch.arange(L)[None],
    ).logits[0]  # fmt: skip


def test_rows_read_them_as_transformers_does(made: Bench) -> None:
    pair, splits, translator = made
    step = step_of(pair, splits, translator)
    hidden = step.student_hidden  # (B, L, d_t)
    assert step.student.prefix is not None
    for i, item in enumerate(step.items):
        row = item.row
        whole = by_transformers(pair, translator, step.soft[i], row.before + row.prompt + row.answer)
        ours = pair.target.logits(hidden[i, : len(whole)])
        torch.testing.assert_close(ours, whole, rtol=1e-9, atol=1e-9)
    alone = pair.target.hidden(*(getattr(step.student, name) for name in ("embeds", "mask", "positions")))
    assert (alone - hidden).abs().max() > 1e-2, "the keys and values change what the target computes"


def test_padded_lengths_and_layers_that_run_again_change_nothing(made: Bench) -> None:
    pair, splits, translator = made
    step = step_of(pair, splits, translator)
    passes = ForwardPasses(translator, pair.target, graphed=True, recompute_above=0)
    hidden = passes.hidden(step.student)
    torch.testing.assert_close(hidden[:, : step.student_hidden.shape[1]], step.student_hidden, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(h.sum(), list(translator.parameters()), allow_unused=True, retain_graph=True)
                 for h in (hidden, step.student_hidden)]  # fmt: skip
    for again, kept in zip(*gradients, strict=True):
        torch.testing.assert_close(again, kept, rtol=1e-8, atol=1e-10)


def test_fused_layers_are_left_to_rows_without_a_cache_of_their_own(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders, bridge="resampler", injection="kv_prefix")
    plain = step_of(pair, splits, translator).student_hidden
    pair.target.fuse(["2 and 3"])
    assert pair.target.body is not None
    torch.testing.assert_close(step_of(pair, splits, translator).student_hidden, plain, rtol=1e-9, atol=1e-9)


def test_texts_do_not_depend_on_the_batch_and_controls_differ(made: Bench) -> None:
    pair, splits, translator = made
    names = ["bridged", "shuffled_soft", "random_soft", "target_alone"]
    texts: dict[int, dict[str, list[Any]]] = {}
    for size in (1, 5):
        samples = Evaluator(pair, Worker(), size, NodeCache(None)).evaluate(splits.test, translator, names)
        texts[size] = {name: [row[f"{name}_output"] for row in samples] for name in names}
    assert texts[1] == texts[5]
    assert len({tuple(texts[1][name]) for name in names}) == 4


def test_greedy_decoding_continues_what_transformers_finds_likeliest(made: Bench) -> None:
    pair, splits, translator = made
    evaluator = Evaluator(pair, Worker(), 5, NodeCache(None))
    items = pair.encoder(splits.test)
    soft = evaluator.soft(items, translator)
    from ray_bridge.generation.generate import decode_rows

    decoded = decode_rows(pair.target, [item.row.without_answer() for item in items], soft, 4)
    for i, item in enumerate(items):
        ids = item.row.before + item.row.prompt
        for token in decoded[i]:
            assert int(by_transformers(pair, translator, soft.tokens[i], ids)[-1].argmax()) == token
            ids = (*ids, token)


def test_every_parameter_learns_from_the_answers(made: Bench) -> None:
    pair, splits, translator = made
    step = step_of(pair, splits, translator)
    parameters = list(translator.parameters())
    (answer,) = [term for term in objective_terms(pair.spec) if term.name == "answer_nll"]
    backward(step, [answer], parameters)
    for name, parameter in translator.named_parameters():
        if not name.endswith("scale.gain"):  # the norm after it takes the size away
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_decode_aware_gradients_are_those_of_the_whole_batch(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders, bridge="resampler", injection="kv_prefix", decode_aware=True)
    step = step_of(pair, splits, translator)
    decode = DecodeAware(pair, splits.train, batch_size=3, micro_tokens=60)
    soft, completions = decode._sample(step, [0, 1], [*worker_keys(2, 2)])
    own = list(translator.injection.parameters())
    term = decode.distill(step)
    assert term.count > 0
    weights = torch.zeros(len(completions))
    direct = token_losses(pair.target, soft.rows([c.soft_row for c in completions]), completions, weights, 1.0)[1]
    gradients = torch.autograd.grad(direct, own)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    parts = torch.autograd.grad(term.total, own)
    assert all(gradient.abs().max() > 0 for gradient in parts)


def worker_keys(questions: int, samples: int) -> list[Any]:
    from ray_bridge.objectives.rollouts import worker_completions

    return list(worker_completions(Worker(), questions, samples))


def test_it_starts_as_the_targets_own_keys_and_values_of_tokens(folders: PairFolders) -> None:
    """Slots that are embeddings of tokens get nearly what the target computes of these tokens in a text."""
    target = FrozenLM.load(folders.target)
    spec = tiny(bridge="resampler", injection="kv_prefix", geometry_projection=False, hidden_size=64, soft_tokens=16)
    writer = KVPrefix(spec, target)
    ids = [[7 * i + j for j in range(20)] for i in range(30)]
    own = read_rows(target, ids)[:2]
    with torch.no_grad():
        made = writer.keys_values(target.embed(torch.tensor(ids)))
    for ours, theirs in zip(made, own, strict=True):
        explained = [1 - float((a - b).pow(2).sum() / (b - b.mean((0, 2), keepdim=True)).pow(2).sum())
                     for a, b in zip(ours, theirs, strict=True)]  # fmt: skip
        assert explained[0] > 0.5, "in the first layer they follow from the token alone, but for the rotation"
        assert all(share > 0 for share in explained), explained


def test_the_initial_map_predicts_the_mean_of_what_it_is_fitted_on(folders: PairFolders) -> None:
    target = FrozenLM.load(folders.target)
    spec = tiny(bridge="resampler", injection="kv_prefix", geometry_projection=False, hidden_size=64, soft_tokens=16)
    writer = KVPrefix(spec, target)
    vocabulary = target.embedding.weight.shape[0]
    drawn = torch.randint(vocabulary, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    own = read_rows(target, drawn.tolist())[:2]
    with torch.no_grad():
        made = writer.keys_values(target.embed(drawn))
    for ours, theirs in zip(made, own, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.mean((0, 2)), b.mean((0, 2)), rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def test_rows_are_read_with_pads_on_the_right() -> None:
    keys, _, mask = read_rows(frozen("llama", 32), [[5, 6, 7], [8]])
    assert keys[0].shape[2] == mask.shape[1] == 3
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.slow
def test_a_trained_one_is_loaded_and_answers_as_recorded(folders: PairFolders, tmp_path: Path) -> None:
    changes = {"decode_aware": True, "decode_questions": 1, "decode_samples": 2, "steps": 4, "test_examples": 4}
    spec = small_spec(folders, bridge="resampler", injection="kv_prefix", **changes)
    trial = finish_trial(spec, tmp_path / "trial")
    translator = Translator.load(trial)
    rows = translator.saved.samples
    answers = translator.generate([str(row["question"]) for row in rows])
    assert [answer.text for answer in answers] == [row["bridged_output"] for row in rows]
    assert "".join(translator.stream(str(rows[0]["question"]))) == rows[0]["bridged_output"]
    with pytest.raises(UserError, match="injection=kv_prefix acts inside the target's layers: no embeddings say"):
        translator.prompt_embeds(str(rows[0]["question"]))


def test_positions_are_those_of_the_text_alone(made: Bench) -> None:
    pair, splits, translator = made
    step = step_of(pair, splits, translator)
    rows = [item.row for item in step.items]
    text = assemble(pair.target, [row.text_only() for row in rows], None, pad="right")
    assert torch.equal(step.student.positions, text.positions)
    assert torch.equal(step.student.embeds, text.embeds)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "soft_only"}, "injection kv_prefix needs layout soft_plus_text"),
        ({"gate_init": 1.0}, "gate_init needs injection residual or adapter: kv_prefix has no such gate"),
        ({"target_shards": 2}, "injection kv_prefix needs target_shards=1"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(injection="kv_prefix", **changes)
