"""On a GPU: a bf16 model with massive activations, as real ones have them, takes every fast path and its kernels."""

import pytest
import torch

from benchmarks.massive_activations import magnitudes
from benchmarks.random_models import random_lm, rows_of
from ray_bridge.generation import graphed_batch
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.kv_caches import FusedCache, open_cache
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.models.frozen_lm import FrozenLM
from tests.support.fast_paths import assert_every_fast_path

pytestmark = pytest.mark.gpu
SMALL = {
    "vocab_size": 1024,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
"""Heads of 128 features, as in the paper's models."""


def massive(side: str) -> FrozenLM:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return random_lm(side, torch.device("cuda", 0), "massive", **SMALL)  # fused, since it is on a GPU


@pytest.mark.parametrize("side", ["source", "target"])
def test_every_fast_path_is_on(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 4)
    lm = massive(side)
    rows = rows_of(lm, 6, 120, header=40)
    layers = magnitudes(lm.model, torch.tensor([rows[0].before + rows[0].prompt], device=lm.device))
    assert all(layer.first > 300 for layer in layers[1:-1])
    assert_every_fast_path(lm, side)
    cache = open_cache(lm, 2, 40, 8, None, None)
    assert isinstance(cache, FusedCache)
    assert cache.kernels
    statistics = DecodingStatistics()
    decode_graphed(lm, rows, None, 32, statistics=statistics)
    assert (statistics.cache, statistics.captured > 0) == ("FusedCache", True)
