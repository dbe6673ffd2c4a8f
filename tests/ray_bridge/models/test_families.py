"""Fused layers, the header read once, and the fixed KV cache, for every family: equal to transformers' own to 1e-10."""

from typing import Any, Literal

import pytest
import torch

from ray_bridge.generation import graphed_batch
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed, uses_graphs
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.layout import assemble, common_prefix
from ray_bridge.models import accuracy
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.fused_decoder import FusedBody
from ray_bridge.models.fused_layers import why_not_fused
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import generator
from tests.support.architectures import FUSED, WINDOW, WINDOWED, exact_lm
from tests.support.decoding_rows import rows_of, soft_of, tokens_of

EXACT = 1e-10
NAMES = (*FUSED, "gemma2")


@pytest.fixture(scope="module", params=NAMES)
def eager(request: pytest.FixtureRequest) -> FrozenLM:
    return exact_lm(request.param)


@pytest.fixture(scope="module")
def fused(eager: FrozenLM) -> FrozenLM:
    lm = exact_lm(eager.name).fuse()
    if lm.body is None:
        pytest.skip("this family is not fused")
    return lm


def test_which_families_are_fused(eager: FrozenLM) -> None:
    lm = exact_lm(eager.name).fuse()
    assert (lm.body is not None) == (eager.name in FUSED)
    assert bool(lm.slow_paths()) == (eager.name not in FUSED)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("llama", {"head_dim": 96}, "its fused layers run without Triton kernels, which take no heads of 96 features"),
        (
            "gemma3",
            {"head_dim": 256},
            "training after a few-shot header attends without a kernel, for heads of 256 features",
        ),
        ("phi3_partial", {}, "decode steps run without Triton kernels, since a part of each head is not rotated"),
    ],
)
def test_heads_that_kernels_do_not_take_are_said(name: str, changes: dict[str, int], reason: str) -> None:
    assert exact_lm(name, dtype=torch.bfloat16, **changes).fuse().slow_paths() == f"{name}: {reason}"


def test_why_a_family_takes_no_fast_path_is_one_line() -> None:
    lm = exact_lm("gemma2").fuse()
    assert lm.slow_paths() == (
        "gemma2: its layers are run eagerly (it caps its attention scores), and it is decoded without CUDA graphs "
        f"where a text is longer than its window of {WINDOW} positions"
    )
    from tests.support.model_pairs import frozen

    assert "GPTNeoXLayer" in (why_not_fused(frozen("gpt_neox", 32).model) or "")


@pytest.mark.parametrize("pad", ["left", "right"])
@pytest.mark.parametrize("recompute", [False, True])
def test_states_and_gradients_are_the_models_own(
    eager: FrozenLM, fused: FrozenLM, pad: Literal["left", "right"], recompute: bool
) -> None:
    results = []
    for lm in (eager, fused):
        soft = tokens_of(lm, 4).requires_grad_()
        batch = assemble(lm, rows_of(lm, 4, answers=True), SoftContext(tokens=soft), pad=pad)
        assert batch.mask.shape[1] > 2 * WINDOW
        hidden = lm.hidden(batch.embeds, batch.mask, batch.positions, recompute=recompute)
        loss = (hidden * batch.mask[..., None]).sin().sum()
        results.append((hidden[batch.mask.bool()].detach(), torch.autograd.grad(loss, soft)[0]))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=EXACT)


@pytest.mark.parametrize("pad", ["left", "right"])
@pytest.mark.parametrize("way", ["eager", "fused"])
def test_the_header_read_once_changes_nothing(
    eager: FrozenLM, pad: Literal["left", "right"], way: str, request: pytest.FixtureRequest
) -> None:
    lm = eager if way == "eager" else request.getfixturevalue("fused")
    rows = rows_of(lm, 4, header=2, soft_after_header=True, answers=True)
    prefix = common_prefix(lm, rows, soft=True)
    assert prefix is not None
    assert len(prefix) > 2 * WINDOW
    results = []
    for own, before in ((eager, None), (lm, prefix)):
        soft = tokens_of(lm, 4).requires_grad_()
        batch = assemble(own, rows, SoftContext(tokens=soft), pad=pad, prefix=before)
        hidden = own.hidden(batch.embeds, batch.mask, batch.positions, prefix=before)[batch.labels >= 0]
        results.append((hidden.detach(), torch.autograd.grad(hidden.sin().sum(), soft)[0]))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("header", "after_header", "sampled"),
    [
        (0, False, False),
        pytest.param(2, False, True, marks=pytest.mark.slow),
        pytest.param(2, True, True, marks=pytest.mark.slow),
    ],
)
def test_the_fixed_cache_writes_the_models_own_text(
    eager: FrozenLM, header: int, after_header: bool, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 3)
    monkeypatch.setattr(graphed_batch, "PREFILL_TOKENS", 400)
    lm = exact_lm(eager.name).fuse()
    if lm.body is None:
        pytest.skip("this family is not fused")
    rows, soft = rows_of(lm, 5, header=header, soft_after_header=after_header), soft_of(lm, 5)

    def draws() -> Sampling | None:
        return Sampling(temperature=1.3, generators=[generator("draw", i) for i in range(5)]) if sampled else None

    whole = [decode_one_by_one(eager, row, soft.rows([i]), WINDOW + 8, draws(), i) for i, row in enumerate(rows)]
    statistics = DecodingStatistics()
    assert decode_eager(lm, rows, soft, WINDOW + 8, draws()) == whole
    assert decode_graphed(lm, rows, soft, WINDOW + 8, draws(), statistics=statistics) == whole
    assert statistics.cache == "FusedCache"


def decode_one_by_one(
    lm: FrozenLM, row: Any, soft: SoftContext, count: int, sampling: Sampling | None, index: int
) -> list[int]:
    """Decode a row by whole forward passes of transformers' own layers, without pads, prefix or cache."""
    from ray_bridge.generation.sampling import choose

    batch = assemble(lm, [row], soft, pad="right")
    embeds, ids = batch.embeds, []
    uniforms = None if sampling is None else sampling.uniforms(count)[index]  # (T,)
    for at in range(count):
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        hidden = lm.run_transformers(None, inputs_embeds=embeds, attention_mask=mask, use_cache=False)
        token = choose(lm.logits(hidden[:, -1]), None if uniforms is None else uniforms[at : at + 1], sampling)
        ids.append(int(token))
        if ids[-1] in lm.ends:
            break
        embeds = torch.cat([embeds, lm.embed(token)[:, None]], 1)
    return ids


def test_windows_matter(eager: FrozenLM) -> None:
    """A model whose windows were wide gives other states on these texts, or the tests above would prove nothing."""
    if eager.name not in WINDOWED:
        pytest.skip("no windows")
    lm = exact_lm(eager.name).fuse()
    assert lm.body is not None
    batch = assemble(lm, rows_of(lm, 2, header=1), None, pad="right")
    own = lm.hidden(batch.embeds, batch.mask, batch.positions)
    lm.body.windows = [None] * len(lm.body.windows)
    assert not torch.allclose(lm.hidden(batch.embeds, batch.mask, batch.positions), own, atol=1e-3)


def test_capped_scores_are_capped_in_every_way() -> None:
    lm, wide = (exact_lm("gemma2", sliding_window=2048, attn_logit_softcapping=cap) for cap in (2.0, 1e9))
    rows, soft = rows_of(lm, 4, header=1), soft_of(lm, 4)
    written = [decode_one_by_one(lm, row, soft.rows([i]), 12, None, i) for i, row in enumerate(rows)]
    statistics = DecodingStatistics()
    assert decode_eager(lm, rows, soft, 12) == written
    assert decode_graphed(lm, rows, soft, 12, statistics=statistics) == written
    assert statistics.cache == "TransformersCache"
    assert decode_eager(wide, rows, soft, 12) != written


def test_probes_outrun_windows(eager: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    if eager.name not in WINDOWED:
        pytest.skip("no windows")
    monkeypatch.setattr(accuracy, "TOKENS", 16)
    body = FusedBody.__init__

    def without_windows(self: FusedBody, model: Any) -> None:
        body(self, model)
        self.windows = [None] * len(self.windows)

    monkeypatch.setattr(FusedBody, "__init__", without_windows)
    with pytest.warns(UserWarning, match="less accurate"):
        assert exact_lm(eager.name).fuse().body is None


def test_capture_is_the_models_own(eager: FrozenLM, fused: FrozenLM) -> None:
    ids = torch.tensor([rows_of(eager, 1, header=1)[0].prompt] * 2)
    mask = torch.ones_like(ids)
    for layer in (1, 2, -1):
        torch.testing.assert_close(fused.capture(ids, mask, layer), eager.capture(ids, mask, layer), rtol=0, atol=EXACT)


def test_windowed_models_decode_with_graphs_where_their_cache_supports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, capped = exact_lm("mistral_windowed"), exact_lm("gemma2")
    monkeypatch.setattr(FrozenLM, "device", torch.device("cuda"))  # only the choice asks for it here
    assert not uses_graphs(lm)
    assert not uses_graphs(capped, longest=WINDOW + 1)
    assert uses_graphs(capped, longest=WINDOW)
    monkeypatch.undo()
    lm.fuse()
    monkeypatch.setattr(FrozenLM, "device", torch.device("cuda"))
    assert uses_graphs(lm)
