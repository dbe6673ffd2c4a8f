"""Under massive activations, as real models have them, right fast ways are accepted and wrong ones are refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.massive_activations import give_massive_activations
from ray_bridge.generation import graphed_batch
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.kv_caches import FusedCache
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.verify import judge_decoding
from ray_bridge.inputs.layout import assemble, common_prefix
from ray_bridge.models import frozen_lm
from ray_bridge.models.accuracy import SAMPLE
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.fused_decoder import FusedBody
from ray_bridge.models.fused_layers import FusedLayer
from ray_bridge.models.gradient_accuracy import judge_gradients
from ray_bridge.models.prefix_cache import Prefix, read_prefix
from tests.support.architectures import exact_lm
from tests.support.decoding_rows import rows_of, soft_of

DTYPES = (torch.float32, torch.bfloat16)
NAMES = ("llama", "mistral", "qwen2")
Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def massive(name: str, dtype: torch.dtype) -> FrozenLM:
    lm = exact_lm(name, dtype=dtype, num_hidden_layers=4)
    give_massive_activations(lm.model, lm.bos)
    return FrozenLM(lm.model, lm.tokenizer, name)


def judge_all(lm: FrozenLM) -> None:
    """Judge states, decode steps and gradients, as a job does when it loads its target."""
    lm.fuse([SAMPLE])
    judge_decoding(lm, [SAMPLE])
    judge_gradients(lm, [SAMPLE])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_fast_way_is_accepted(name: str, dtype: torch.dtype) -> None:
    lm = massive(name, dtype)
    judge_all(lm)
    assert lm.body is not None
    assert lm.slow_paths() == ""


def test_every_fast_way_writes_the_eager_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 4)
    lm = massive(name, torch.float32)
    rows, soft = rows_of(lm, 6, header=2, soft_after_header=True), soft_of(lm, 6)
    eager, statistics = decode_eager(lm, rows, soft, 24), DecodingStatistics()
    assert len({tuple(ids) for ids in eager}) > 3
    for cache in ("TransformersCache", "FusedCache"):
        lm = lm if cache == "TransformersCache" else lm.fuse([SAMPLE])
        assert decode_graphed(lm, rows, soft, 24, statistics=statistics) == eager
        assert statistics.cache == cache


@pytest.mark.parametrize("fused", [True, False])
def test_the_header_read_once_gives_the_states_of_the_whole_text(name: str, fused: bool) -> None:
    lm = massive(name, torch.float32)
    lm = lm.fuse([SAMPLE]) if fused else lm
    rows = rows_of(lm, 3, header=2, answers=True)
    prefix = common_prefix(lm, rows, soft=False)
    assert prefix is not None
    assert prefix.ids[0] == lm.bos
    states = []
    for before in (None, prefix):
        batch = assemble(lm, rows, None, pad="right", prefix=before)
        states.append(lm.hidden(batch.embeds, batch.mask, batch.positions, prefix=before)[batch.labels >= 0])
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-4)


def weak_scale(patch: pytest.MonkeyPatch) -> None:
    """Scale attention wrongly: by 5 % in fp32, and by what exceeds its rounding in bf16."""
    build = FusedBody.__init__

    def broken(self: FusedBody, model: Any) -> None:
        build(self, model)
        self.scale *= 1.05 if model.dtype == torch.float32 else 3.0

    patch.setattr(FusedBody, "__init__", broken)


def large_values_saturate(patch: pytest.MonkeyPatch) -> None:
    """Keep the sum of layers in a range that ordinary activations stay within, and massive ones do not."""
    layer = FusedBody.layer

    def broken(self: FusedBody, i: int, own: FusedLayer, x: torch.Tensor, *rest: Any) -> Any:
        return layer(self, i, own, x.clamp(-100, 100), *rest)

    patch.setattr(FusedBody, "layer", broken)


def first_key_lost(patch: pytest.MonkeyPatch) -> None:
    """Lose the first token of each cached header."""

    def broken(model: Any, ids: tuple[int, ...], device: torch.device) -> Prefix:
        prefix = read_prefix(model, ids, device)
        for values in prefix.values:
            values[:, :, 0] = 1.0
        return prefix

    patch.setattr(frozen_lm, "read_prefix", broken)


def last_token_overwritten(patch: pytest.MonkeyPatch) -> None:
    """Let the first decode step overwrite the prompt's last token."""
    fill = FusedCache.fill

    def broken(self: FusedCache, *arguments: Any) -> torch.Tensor:
        states = fill(self, *arguments)
        self.lengths.sub_(1)
        return states

    patch.setattr(FusedCache, "fill", broken)


def no_gradient_of_the_gate(patch: pytest.MonkeyPatch) -> None:
    """Give right states and wrong gradients."""
    gated = FusedBody.gated

    def broken(self: FusedBody, gate_up: torch.Tensor, **options: bool) -> torch.Tensor:
        return gated(self, gate_up.detach(), **options)

    patch.setattr(FusedBody, "gated", broken)


@pytest.mark.parametrize("name", ["llama", "mistral"], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [weak_scale, large_values_saturate, first_key_lost, last_token_overwritten, no_gradient_of_the_gate],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_wrong_way_is_refused(name: str, fault: Patch, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    lm = massive(name, dtype)
    with pytest.warns(UserWarning, match="run eagerly"):
        judge_all(lm)
    assert lm.body is None
