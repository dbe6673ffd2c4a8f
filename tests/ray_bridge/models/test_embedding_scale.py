"""The size of embeddings is that of what the model makes of ids: Gemma multiplies its weights by the root of d."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ray_bridge.bridges.translator import build_bridge
from ray_bridge.config.presets import tiny
from ray_bridge.models.embedding_map import shared_embeddings
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_spelling import vocabulary_bytes
from tests.support.architectures import exact_lm
from tests.support.model_pairs import frozen

SCALED: dict[str, dict[str, Any]] = {
    "gemma": {"model_type": "gemma", "head_dim": 16},
    "gemma2": {},
    "gemma3": {},
}


def lm_of(name: str) -> FrozenLM:
    return exact_lm("llama" if name == "gemma" else name, **SCALED.get(name, {}))


def read_by(lm: FrozenLM) -> Tensor:
    """Return what enters the first layer for every id, (V, d), by the model's own account."""
    ids = torch.arange(lm.embedding.weight.shape[0])[:, None]
    with torch.no_grad():
        return lm.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[0][:, 0]


@pytest.mark.parametrize("name", [*SCALED, "llama"])
def test_sizes_are_those_of_what_the_model_reads(name: str) -> None:
    lm = lm_of(name)
    table = read_by(lm)
    rms = table.float().pow(2).mean(-1).sqrt()
    assert lm.embedding_rms == pytest.approx(float(rms[rms > 0].median()), rel=1e-6)
    raw = lm.embedding.weight.float().pow(2).mean(-1).sqrt()
    assert lm.embedding_rms == pytest.approx((8.0 if name in SCALED else 1.0) * float(raw[raw > 0].median()), rel=1e-6)
    torch.testing.assert_close(lm.embedding_table(), table)


def test_without_scaling_the_size_is_that_of_the_weights_bit_for_bit() -> None:
    for lm in (frozen("llama", 32), frozen("mistral", 48)):
        rms = lm.embedding.weight.detach().float().pow(2).mean(-1).sqrt()
        assert lm.embedding_rms == float(rms[rms > 0].median())
        X, Y = shared_embeddings(lm, lm)
        ids = sorted(vocabulary_bytes(lm.tokenizer).items())
        assert torch.equal(X, lm.embedding.weight[[number for _, number in ids]].double())
        assert torch.equal(X, Y)


@pytest.mark.parametrize("name", SCALED)
def test_the_map_and_the_soft_tokens_are_of_that_size(name: str) -> None:
    lm = lm_of(name)
    ids = [number for _, number in sorted(vocabulary_bytes(lm.tokenizer).items())]
    torch.testing.assert_close(shared_embeddings(lm, lm)[1], read_by(lm)[ids].double())
    bridge = build_bridge(tiny(hidden_size=16, num_heads=2, depth=1, soft_tokens=3), lm.hidden_size, lm)
    soft = bridge(torch.randn(2, 4, lm.hidden_size), torch.ones(2, 4), torch.randn(2, 3, lm.hidden_size))
    text = read_by(lm).pow(2).mean(-1).sqrt().median()
    torch.testing.assert_close(soft.double().pow(2).mean(-1).sqrt(), text.expand(2, 3), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", SCALED)
def test_a_loaded_checkpoint_scales_too(name: str, tmp_path: Path) -> None:
    lm = lm_of(name)
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    assert FrozenLM.load(str(tmp_path)).embedding_rms == pytest.approx(lm.embedding_rms, rel=1e-6)
