"""On a GPU: every family that can be fused takes fused layers and captured decoding, windows and norms included."""

import pytest
import torch

from ray_bridge.generation import graphed_batch
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.verify import judge_decoding
from ray_bridge.models.accuracy import SAMPLE
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.gradient_accuracy import judge_gradients
from ray_bridge.models.soft_context import SoftContext
from tests.support.architectures import FUSED, exact_lm
from tests.support.decoding_rows import rows_of, tokens_of

pytestmark = pytest.mark.gpu


def on_gpu(name: str, dtype: torch.dtype, **changes: int) -> FrozenLM:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    lm = exact_lm(name, dtype=dtype, **changes)
    return FrozenLM(lm.model.cuda(), lm.tokenizer, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("name", "changes"),
    [*((name, {}) for name in FUSED), ("llama", {"head_dim": 96}), ("gemma3", {"head_dim": 256})],
)
def test_every_family_takes_fused_layers_and_captured_decoding(
    name: str, changes: dict[str, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads of 96 features, as Phi-3's, and of 256, as Gemma 3's, take fewer kernels, and say so."""
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 4)
    lm = on_gpu(name, dtype, **changes).fuse([SAMPLE])
    judge_decoding(lm, [SAMPLE])
    judge_gradients(lm, [SAMPLE])
    fewer = dtype.itemsize == 2 and (bool(changes) or name == "phi3_partial")
    assert ("without" in lm.slow_paths()) == fewer
    assert lm.body is not None
    rows, statistics = rows_of(lm, 12, header=2, soft_after_header=True), DecodingStatistics()
    soft = SoftContext(adapters={}, tokens=tokens_of(lm, 12))
    written = decode_graphed(lm, rows, soft, 48, statistics=statistics)
    assert (statistics.cache, statistics.captured > 0) == ("FusedCache", True)
    if dtype == torch.float32:
        assert written == decode_eager(lm, rows, soft, 48)


def test_a_family_without_fused_layers_takes_captured_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma 2 caps its scores; a window longer than the text needs no mask."""
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 4)
    lm = on_gpu("gemma2", torch.float32, sliding_window=4096).fuse([SAMPLE])
    assert lm.body is None
    rows, statistics = rows_of(lm, 12, header=2, soft_after_header=True), DecodingStatistics()
    soft = SoftContext(adapters={}, tokens=tokens_of(lm, 12))
    written = decode_graphed(lm, rows, soft, 48, statistics=statistics)
    assert (statistics.cache, statistics.captured > 0) == ("TransformersCache", True)
    assert written == decode_eager(lm, rows, soft, 48)
