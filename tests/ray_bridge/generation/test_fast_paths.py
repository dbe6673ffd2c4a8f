"""Every fast path gives what the eager one gives: decoding, fused layers, the header read once, early stopping."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ray_bridge.generation import graphed, graphed_batch
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed, split_evenly
from ray_bridge.generation.graphed_batch import GraphedBatch
from ray_bridge.generation.kv_caches import FusedCache
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.layout import assemble, common_prefix
from ray_bridge.models.frozen_lm import FrozenLM, count_positions
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import generator
from tests.support.decoding_rows import adapters_of, rows_of, soft_of, tokens_of
from tests.support.model_pairs import Arch, save_checkpoint

ARCHES: tuple[Arch, ...] = ("mistral", "llama", "gpt_neox", "qwen2")


@pytest.fixture(scope="module", params=ARCHES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp(request.param) / "model"
    return str(save_checkpoint(place, request.param, width=64))  # four query heads on one key head


def load(folder: str, *, fused: bool) -> FrozenLM:
    lm = FrozenLM.load(folder)
    lm.model.double()
    return lm.fuse() if fused else lm


@pytest.fixture(scope="module", params=["eager", "fused"])
def lm(request: pytest.FixtureRequest, folder: str) -> FrozenLM:
    model = load(folder, fused=request.param == "fused")
    if request.param == "fused" and model.body is None:
        pytest.skip("this architecture is not fused")
    return model


def sampling(count: int) -> Sampling:
    return Sampling(temperature=1.3, generators=[generator("draw", i) for i in range(count)])


@pytest.mark.parametrize(
    ("header", "after_header"), [(0, False), pytest.param(2, False, marks=pytest.mark.slow), (2, True)]
)
def test_decoding_with_a_fixed_cache_writes_what_eager_decoding_writes(
    lm: FrozenLM, header: int, after_header: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 3)
    monkeypatch.setattr(graphed_batch, "PREFILL_TOKENS", 400)
    rows, soft = rows_of(lm, 5, header=header, soft_after_header=after_header), soft_of(lm, 5)
    cases = [(soft, False), (soft, True), (None, True)]
    statistics = DecodingStatistics()
    for z, sampled in cases:
        eager = decode_eager(lm, rows, z, 10, sampling(5) if sampled else None)
        assert decode_graphed(lm, rows, z, 10, sampling(5) if sampled else None, statistics=statistics) == eager
    assert statistics.cache == ("TransformersCache" if lm.body is None else "FusedCache")
    assert statistics.batches == 3


def test_rows_that_have_ended_leave_the_cache(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, soft = rows_of(lm, 6), soft_of(lm, 6)
    written = decode_eager(lm, rows, soft, 16, sampling(6))

    def early(token: int) -> int:
        return sum(token in ids[:6] for ids in written) * (1 - all(token in ids[:6] for ids in written))

    eos = max({token for ids in written for token in ids}, key=early)
    monkeypatch.setattr(lm, "ends", frozenset({eos}))  # a token that ends some rows early
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 2)
    monkeypatch.setattr(graphed_batch, "RETIRE_SHARE", 0.9)
    eager, statistics = decode_eager(lm, rows, soft, 16, sampling(6)), DecodingStatistics()
    assert len({len(text) for text in eager}) > 1
    assert decode_graphed(lm, rows, soft, 16, sampling(6), statistics=statistics) == eager
    assert statistics.retired > 0


@pytest.mark.parametrize("header", [0, 2])
@pytest.mark.parametrize("sampled", [False, True])
def test_rows_that_wait_take_the_places_of_those_that_have_ended(
    lm: FrozenLM, header: int, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eleven rows where memory holds three; without fused layers they follow in batches of their own."""
    rows, soft = rows_of(lm, 11, header=header), soft_of(lm, 11)
    draws = lambda: sampling(11) if sampled else None  # noqa: E731
    written = decode_eager(lm, rows, soft, 14, draws())
    early = max({token for ids in written for token in ids}, key=lambda token: sum(token in ids[:9] for ids in written))
    monkeypatch.setattr(lm, "ends", frozenset({early}))
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 2)
    monkeypatch.setattr(graphed_batch, "PREFILL_TOKENS", 60)
    monkeypatch.setattr(graphed, "rows_that_fit", lambda lm, slots: 3)
    stop = lm.tokenizer.decode(written[4][5:7])
    for limit, stops in ((14, ()), (14, (stop,)), (1, ())):
        eager, statistics = decode_eager(lm, rows, soft, limit, draws(), stops), DecodingStatistics()
        assert limit == 1 or len({len(text) for text in eager}) > 1
        assert decode_graphed(lm, rows, soft, limit, draws(), stops=stops, statistics=statistics) == eager
        assert (statistics.batches, statistics.refilled) == ((4, 0) if lm.body is None else (1, 8))


def test_ended_rows_hold_one_slot_that_a_step_reads(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their length is 0 after each step, so that kernels read no more of them than the slot of their last token."""
    if lm.body is None:
        pytest.skip("transformers' cache has one length for all rows")
    rows, soft, seen = rows_of(lm, 5), soft_of(lm, 5), []
    hold = FusedCache.hold

    def seeing(cache: FusedCache, ended: Tensor) -> None:
        hold(cache, ended)
        seen.append((ended.tolist(), cache.lengths.tolist()))

    monkeypatch.setattr(FusedCache, "hold", seeing)
    written = decode_eager(lm, rows, soft, 12, sampling(5))
    monkeypatch.setattr(lm, "ends", frozenset({written[0][3], written[1][6]}))
    assert decode_graphed(lm, rows, soft, 12, sampling(5)) == decode_eager(lm, rows, soft, 12, sampling(5))
    assert any(any(ended) for ended, _ in seen)
    for ended, lengths in seen:
        assert [length == 0 for length in lengths] == ended


@pytest.mark.parametrize("kernels", [False, True])
def test_few_rows_leave_no_cache_whose_kernels_skip_ended_ones(
    lm: FrozenLM, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller cache costs a copy and a capture, and saves nothing where weights are all that a step reads."""
    if lm.body is None:
        pytest.skip("has no kernels")
    opened = GraphedBatch.__init__

    def with_kernels(batch: GraphedBatch, *arguments: Any) -> None:
        opened(batch, *arguments)
        batch.cache.kernels = kernels
        monkeypatch.setattr(batch.cache, "step", lambda embeds: FusedCache._torch_step(batch.cache, embeds))

    monkeypatch.setattr(GraphedBatch, "__init__", with_kernels)
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 2)
    rows, soft = rows_of(lm, 6), soft_of(lm, 6)
    written = decode_eager(lm, rows, soft, 16, sampling(6))
    monkeypatch.setattr(lm, "ends", frozenset(ids[2] for ids in written[:5]) - frozenset(written[5][:3]))
    retired = []
    for few in (6, 5):
        monkeypatch.setattr(graphed_batch, "FEW_ROWS", few)
        statistics = DecodingStatistics()
        texts = decode_graphed(lm, rows, soft, 16, sampling(6), statistics=statistics)
        assert texts == decode_eager(lm, rows, soft, 16, sampling(6))
        retired.append(statistics.retired > 0)
    assert retired == [not kernels, True]


def test_a_row_that_waited_has_all_its_tokens_while_ended_ones_take_no_more_room(
    lm: FrozenLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one length that end at the limit: the last one begins when the others have no slot left."""
    rows, soft = rows_of(lm, 1) * 4, soft_of(lm, 4)
    monkeypatch.setattr(lm, "ends", frozenset())
    monkeypatch.setattr(graphed, "rows_that_fit", lambda lm, slots: 3)
    written = decode_eager(lm, rows, soft, 40, sampling(4))
    assert decode_graphed(lm, rows, soft, 40, sampling(4)) == written
    early = {next(token for token in ids[:14] if token not in written[3]) for ids in written[:2]}
    monkeypatch.setattr(lm, "ends", frozenset(early))
    monkeypatch.setattr(graphed_batch, "REFILL_SHARE", 0.5)  # two of three places
    ended = decode_eager(lm, rows, soft, 40, sampling(4))
    assert len(ended[3]) == 40 > min(map(len, ended))
    statistics = DecodingStatistics()
    assert decode_graphed(lm, rows, soft, 40, sampling(4), statistics=statistics) == ended
    assert lm.body is None or statistics.steps == 15 + 39, "it begins at the first check after two have ended"


def test_a_model_whose_step_cannot_be_captured_is_decoded_eagerly(
    lm: FrozenLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("no capture fails here")
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 2)
    rows, soft, statistics = rows_of(lm, 3), soft_of(lm, 3), DecodingStatistics()
    eager = decode_eager(lm, rows, soft, 8, sampling(3))
    with pytest.warns(UserWarning, match="cannot be captured"):
        written = decode_graphed(lm, rows, soft, 8, sampling(3), statistics=statistics, capture=True)
    assert written == eager
    assert list(statistics.uncapturable) == [lm]
    assert (statistics.batches, statistics.captured) == (0, 0)
    monkeypatch.setattr(FrozenLM, "device", torch.device("cuda"))  # only the choice asks for it here
    assert graphed.uses_graphs(lm)
    assert not graphed.uses_graphs(lm, statistics)


@pytest.mark.parametrize("injection", ["residual", "adapter"])
def test_decoding_with_a_fixed_cache_injects_what_eager_decoding_does(
    lm: FrozenLM, injection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 2)
    monkeypatch.setattr(graphed_batch, "RETIRE_SHARE", 0.9)
    monkeypatch.setattr(graphed_batch, "PREFILL_TOKENS", 400)
    rows = [replace(row, injection=injection, span=(2, 9)) for row in rows_of(lm, 6, header=1)]
    soft = soft_of(lm, 6, adapters_of(lm) if injection == "adapter" else None)
    texts, statistics = [], DecodingStatistics()
    for early in (False, True):
        if early:
            ends = lm.ends | {max(token for ids in texts[0] for token in ids[:3])}
            monkeypatch.setattr(lm, "ends", ends)
        alone = decode_eager(lm, rows, None, 14, sampling(6))
        texts.append(decode_eager(lm, rows, soft, 14, sampling(6)))
        assert decode_graphed(lm, rows, soft, 14, sampling(6), statistics=statistics) == texts[-1] != alone
        assert decode_eager(lm, rows, None, 14, sampling(6)) == alone  # no hook is left
    assert statistics.retired > 0


def test_batches_are_as_even_as_can_be() -> None:
    assert [len(part) for part in split_evenly(range(10), 4)] == [3, 3, 4]
    assert split_evenly([5, 6], 4) == [[5, 6]]


def test_fused_layers_give_the_models_own_states_and_gradients(folder: str) -> None:
    eager, fused = load(folder, fused=False), load(folder, fused=True)
    if fused.body is None:
        pytest.skip("this architecture is not fused")
    for pad in ("left", "right"):
        states = {}
        for name, lm in {"eager": eager, "fused": fused, "recomputed": fused}.items():
            soft = tokens_of(lm, 4).requires_grad_()
            batch = assemble(lm, rows_of(lm, 4, answers=True), SoftContext(tokens=soft), pad=pad)  # type: ignore[arg-type]
            hidden = lm.hidden(batch.embeds, batch.mask, batch.positions, recompute=name == "recomputed")
            loss = (hidden * batch.mask[..., None]).sin().sum()
            states[name] = (hidden[batch.mask.bool()], torch.autograd.grad(loss, soft)[0])
        for name in ("fused", "recomputed"):
            assert torch.allclose(states[name][0], states["eager"][0], rtol=0, atol=2e-6)  # norms round to fp32
            assert torch.allclose(states[name][1], states["eager"][1], rtol=1e-5, atol=1e-5)


def test_adapters_in_fused_layers_give_the_same_states_and_gradients(folder: str) -> None:
    eager, fused = load(folder, fused=False), load(folder, fused=True)
    if fused.body is None:
        pytest.skip("this architecture is not fused")
    results = {}
    for name, lm in {"eager": eager, "fused": fused, "recomputed": fused}.items():
        soft, injection = tokens_of(lm, 4).requires_grad_(), adapters_of(lm)
        rows = [replace(row, injection="adapter") for row in rows_of(lm, 4, answers=True)]
        batch = assemble(lm, rows, SoftContext(adapters=injection.adapters, tokens=soft), pad="right")
        hidden = lm.hidden(
            batch.embeds, batch.mask, batch.positions, context=batch.context, recompute=name == "recomputed"
        )
        trained = [soft, *injection.parameters()]
        gradients = torch.autograd.grad((hidden * batch.mask[..., None]).sin().sum(), trained)
        assert all(float(gradient.norm()) > 1e-6 for gradient in gradients)
        results[name] = (hidden[batch.mask.bool()], *gradients)
    for name in ("fused", "recomputed"):
        torch.testing.assert_close(results[name], results["eager"], rtol=1e-5, atol=1e-5)


def test_fused_weights_are_the_models_own_memory(folder: str) -> None:
    lm = load(folder, fused=True)
    if lm.body is None:
        pytest.skip("this architecture is not fused")
    attention = lm.model.base_model.layers[0].self_attn
    assert attention.q_proj.weight.data_ptr() == lm.body.layers[0].qkv.data_ptr()
    assert attention.v_proj.weight.untyped_storage().data_ptr() == lm.body.layers[0].qkv.untyped_storage().data_ptr()


@pytest.mark.parametrize("pad", ["left", "right"])
def test_the_header_read_once_gives_values_and_gradients_of_the_full_forward(lm: FrozenLM, pad: str) -> None:
    rows = rows_of(lm, 4, header=2, soft_after_header=True, answers=True)
    prefix = common_prefix(lm, rows, soft=True)
    assert prefix is not None
    results = []
    for before in (None, prefix):
        soft = tokens_of(lm, 4).requires_grad_()
        batch = assemble(lm, rows, SoftContext(tokens=soft), pad=pad, prefix=before)  # type: ignore[arg-type]
        hidden = lm.hidden(batch.embeds, batch.mask, batch.positions, prefix=before)
        at = batch.labels >= 0
        logits = lm.logits(hidden[at])
        loss = torch.nn.functional.cross_entropy(logits, batch.labels[at])
        results.append((logits, torch.autograd.grad(loss, soft)[0]))
    (full, full_gradient), (short, short_gradient) = results
    assert batch.embeds.shape[1] < 200
    assert torch.allclose(short, full, rtol=0, atol=1e-9)
    assert torch.allclose(short_gradient, full_gradient, rtol=0, atol=1e-9)


def test_a_header_is_shared_only_where_soft_tokens_do_not_come_before_it(lm: FrozenLM) -> None:
    first, after_header = rows_of(lm, 3, header=2), rows_of(lm, 3, header=2, soft_after_header=True)
    assert common_prefix(lm, first, soft=True) is None
    assert common_prefix(lm, first, soft=False) is common_prefix(lm, after_header, soft=True)
    assert common_prefix(lm, [row.text_only() for row in first], soft=False) is not None
    assert common_prefix(lm, rows_of(lm, 3), soft=False) is None
    with pytest.raises(ValueError, match="past the place"):
        assemble(lm, first, soft_of(lm, 3), pad="right", prefix=common_prefix(lm, after_header, soft=True))


def test_capture_stops_after_its_layer(lm: FrozenLM) -> None:
    ids = torch.tensor([rows_of(lm, 1, header=2)[0].text_only().prompt] * 2)
    mask = torch.ones_like(ids)
    whole = [lm.capture(ids, mask, layer) for layer in (1, -1)]
    prefix = lm.prefix(tuple(ids[0, :30].tolist()))
    for layer, states in zip((1, -1), whole, strict=True):
        rest = lm.capture(ids[:, 30:], mask[:, 30:], layer, prefix=prefix)
        assert torch.allclose(rest, states[:, 30:], rtol=0, atol=1e-9)
    last = lm.layers[-1].mlp
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(last, "forward", lambda *_: pytest.fail("a layer after the captured one was run"))
        assert torch.equal(lm.capture(ids, mask, 1), whole[0])
    own = lm.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[1]
    assert torch.allclose(whole[0], own, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_captured_states_are_those_after_the_layers_adapter(lm: FrozenLM, layer: int) -> None:
    ids = torch.tensor([rows_of(lm, 1)[0].prompt] * 2)
    mask, soft = torch.ones_like(ids), soft_of(lm, 2, adapters_of(lm))
    states = lm.capture(ids, mask, layer, context=soft)
    without = lm.capture(ids, mask, layer)
    assert not torch.allclose(states, without, rtol=0, atol=1e-3)
    if layer == 3:  # the last layer, whose output the final norm reads
        norm = next(module for name, module in lm.model.base_model.named_children() if "norm" in name)
        whole = lm.hidden(lm.embed(ids), mask, count_positions(mask), context=soft)
        assert torch.allclose(norm(states), whole, rtol=0, atol=1e-6)


def test_positions_go_on_after_a_prefix(lm: FrozenLM) -> None:
    rows = rows_of(lm, 3, header=2, soft_after_header=True)
    prefix = common_prefix(lm, rows, soft=True)
    assert prefix is not None
    batch = assemble(lm, rows, soft_of(lm, 3), pad="right", prefix=prefix)
    assert torch.equal(batch.positions, count_positions(batch.mask) + len(prefix))
