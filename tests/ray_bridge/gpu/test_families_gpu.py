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
from ray_bridge.models.soft_context import SoftContext
from tests.support.architectures import FUSED, exact_lm
from tests.support.decoding_rows import rows_of, tokens_of

pytestmark = pytest.mark.gpu


def on_gpu(name: str, dtype: torch.dtype) -> FrozenLM:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    lm = exact_lm(name, dtype=dtype)
    return FrozenLM(lm.model.cuda(), lm.tokenizer, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FUSED)
def test_every_family_takes_fused_layers_and_captured_decoding(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 4)
    lm = on_gpu(name, dtype).fuse([SAMPLE])
    judge_decoding(lm, [SAMPLE])
    assert lm.slow_paths() == ""
    assert lm.body is not None
    rows, statistics = rows_of(lm, 12, header=2, soft_after_header=True), DecodingStatistics()
    soft = SoftContext(adapters={}, tokens=tokens_of(lm, 12))
    written = decode_graphed(lm, rows, soft, 48, statistics=statistics)
    assert (statistics.cache, statistics.captured > 0) == ("FusedCache", True)
    if dtype == torch.float32:
        assert written == decode_eager(lm, rows, soft, 48)
