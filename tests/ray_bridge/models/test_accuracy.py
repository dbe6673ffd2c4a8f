"""Fused layers are judged beside the eager path's own error: right ones pass on real weights, wrong ones fail."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from ray_bridge.generation.kv_caches import FusedCache
from ray_bridge.generation.verify import judge_decoding
from ray_bridge.inputs.layout import Batch
from ray_bridge.models.accuracy import SAMPLE, PreciseDecoder, judge
from ray_bridge.models.frozen_lm import FrozenLM, count_positions
from ray_bridge.models.fused_decoder import FusedBody
from ray_bridge.models.gradient_accuracy import judge_gradients
from tests.support.architectures import exact_lm
from tests.support.model_pairs import save_checkpoint

ARCHITECTURES = ("llama", "mistral", "qwen2")
DTYPES = ("float32", "bfloat16")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_real_weights_take_fused_layers(real_model: Path, dtype: str) -> None:
    lm = FrozenLM.load(str(real_model), dtype=dtype).fuse()
    assert lm.body is not None
    assert lm.fused is not None
    assert lm.fused.ratio < 1.5
    decoding = judge_decoding(lm)
    assert lm.body is not None
    assert decoding is not None
    assert decoding.ratio < 1.5
    gradients = judge_gradients(lm)
    assert lm.body is not None
    assert gradients is not None
    assert gradients.ratio < 1.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_weights_take_fused_layers(folder: Path, dtype: str) -> None:
    lm = FrozenLM.load(str(folder), dtype=dtype).fuse([SAMPLE])
    assert lm.body is not None


def wrong_scale(body: FusedBody, model: Any) -> None:
    body.scale *= 1.05 if model.dtype == torch.float32 else 3.0  # within bf16's rounding a few percent are


def wrong_norm(body: FusedBody, _model: Any) -> None:
    body.final_norm = copy.deepcopy(body.final_norm)
    body.final_norm.module.variance_epsilon = 1.0


def one_layer_less(body: FusedBody, _model: Any) -> None:
    del body.layers[-1]


def swapped_gate(body: FusedBody, _model: Any) -> None:
    body.activation = torch.nn.functional.gelu


@pytest.mark.parametrize("fault", [wrong_scale, wrong_norm, one_layer_less, swapped_gate])
@pytest.mark.parametrize("dtype", DTYPES)
def test_wrong_layers_are_refused(folder: Path, dtype: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build = FusedBody.__init__

    def broken(self: FusedBody, model: Any) -> None:
        build(self, model)
        fault(self, model)

    monkeypatch.setattr(FusedBody, "__init__", broken)
    with pytest.warns(UserWarning, match="run eagerly"):
        lm = FrozenLM.load(str(folder), dtype=dtype).fuse([SAMPLE])
    assert lm.body is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_decode_steps_are_judged(folder: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = FrozenLM.load(str(folder), dtype=dtype).fuse([SAMPLE])
    verdict = judge_decoding(lm, [SAMPLE])
    assert verdict is not None
    assert verdict.accurate
    fill = FusedCache.fill

    def fill_too_short(self: FusedCache, places: slice, batch: Batch, shortest: int | None = None) -> torch.Tensor:
        states = fill(self, places, batch, shortest)
        self.lengths.sub_(1)  # the first step overwrites the prompt's last token
        return states

    monkeypatch.setattr(FusedCache, "fill", fill_too_short)
    with pytest.warns(UserWarning, match="decode steps"):
        judge_decoding(lm, [SAMPLE])
    assert lm.body is None


@pytest.mark.parametrize("window", [24, 300])
def test_decode_steps_that_forget_a_window_are_refused(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window longer than the task's text, too: random ids outrun it."""
    lm = exact_lm("mistral_windowed", sliding_window=window).fuse([SAMPLE])
    right = judge_decoding(lm, [SAMPLE] * 8)
    assert right is not None
    assert right.accurate
    init = FusedCache.__init__

    def without_windows(self: FusedCache, *arguments: Any) -> None:
        init(self, *arguments)
        self.windows = [None] * len(self.windows)

    monkeypatch.setattr(FusedCache, "__init__", without_windows)
    with pytest.warns(UserWarning, match="decode steps"):
        judge_decoding(lm, [SAMPLE] * 8)
    assert lm.body is None


def test_the_reference_is_the_model_in_higher_precision(folder: Path) -> None:
    lm = FrozenLM.load(str(folder))
    ids = torch.arange(5, 45)[None]  # (1, 40)
    positions = count_positions(torch.ones_like(ids))
    expected = copy.deepcopy(lm.model).double().base_model(ids).last_hidden_state[0]  # (40, d)
    found = PreciseDecoder(lm.model, lm.embed(ids), positions).states()
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_the_reference_gradient_is_that_of_the_model_in_higher_precision(folder: Path) -> None:
    lm = FrozenLM.load(str(folder))
    ids = torch.arange(5, 45)[None]  # (1, 40)
    embeds = lm.embed(ids).detach().double().requires_grad_()  # (1, 40, d)
    grad_states = torch.randn(embeds.shape, dtype=torch.float64)
    states = copy.deepcopy(lm.model).double().base_model(inputs_embeds=embeds).last_hidden_state
    (expected,) = torch.autograd.grad(states, embeds, grad_states)
    positions = count_positions(torch.ones_like(ids))
    found = PreciseDecoder(lm.model, lm.embed(ids), positions).gradients(grad_states)
    torch.testing.assert_close(found, expected[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_judged(folder: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = FrozenLM.load(str(folder), dtype=dtype).fuse([SAMPLE])
    verdict = judge_gradients(lm, [SAMPLE])
    assert verdict is not None
    assert verdict.accurate
    gated = FusedBody.gated

    def gated_without_its_gradient(self: FusedBody, gate_up: torch.Tensor, **options: bool) -> torch.Tensor:
        return gated(self, gate_up.detach(), **options)  # the states are right

    monkeypatch.setattr(FusedBody, "gated", gated_without_its_gradient)
    with pytest.warns(UserWarning, match="gradients of fused layers"):
        judge_gradients(lm, [SAMPLE])
    assert lm.body is None


def test_not_a_number_is_never_accurate() -> None:
    reference = torch.randn(32, 8, dtype=torch.float64)
    eager = reference + 0.1
    assert judge(reference, eager, eager, torch.float32).accurate
    assert not judge(reference, eager, torch.full_like(eager, torch.nan), torch.float32).accurate
