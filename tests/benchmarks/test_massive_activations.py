"""Random weights with massive activations have the statistics of a real model's states, and can lose them again."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.massive_activations import (
    WEIGHTS,
    Magnitudes,
    give_massive_activations,
    magnitudes,
    massive_activations,
)
from benchmarks.quantities import quantities
from benchmarks.random_models import Rig, embedded_lm
from ray_bridge.models.accuracy import SAMPLE
from ray_bridge.models.frozen_lm import FrozenLM
from tests.support.architectures import exact_lm

SIZE: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "intermediate_size": 512,
    "initializer_range": 0.06,
}


def prompt(lm: FrozenLM) -> torch.Tensor:
    return torch.tensor([[lm.bos, *lm.tokenizer(SAMPLE, add_special_tokens=False)["input_ids"][:70]]])


def resting(lm: FrozenLM) -> list[float]:
    """Return by layer how much of the attention from the 21st token on rests on the first one."""
    own = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")
    attention = lm.model.base_model(prompt(lm), output_attentions=True).attentions
    lm.model.set_attn_implementation(own)
    return [float(weights[0, :, 20:, 0].mean()) for weights in attention]


def is_real(layers: list[Magnitudes]) -> bool:
    """Return whether the layers from the second to the last but one have massive activations as real ones do."""
    return all(300 < layer.first < 15_000 and 15 < layer.elsewhere < 200 for layer in layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_states_have_the_statistics_of_real_ones(name: str, dtype: torch.dtype) -> None:
    lm = exact_lm(name, dtype=dtype, **SIZE)
    plain = magnitudes(lm.model, prompt(lm))
    assert all(layer.first < 15 and layer.elsewhere < 15 for layer in plain)
    assert not is_real(plain[2:-1])
    give_massive_activations(lm.model, lm.bos)
    layers = magnitudes(lm.model, prompt(lm))
    assert is_real(layers[1:-1])
    assert len({layer.channels for layer in layers[1:-1]}) == 1  # the same channels in the same order
    assert layers[0].first < 20  # as the embeddings
    assert layers[-1].first < 100  # and as what the head reads
    assert all(0.3 < share < 0.7 for share in resting(lm)[1:])
    assert max(layer.median for layer in layers[1:-1]) < 3 * max(layer.median for layer in plain[1:-1])
    states = lm.states(prompt(lm))  # (T, d)
    assert states[0].abs().median() > 0.2 * states.abs().median()  # they are gone before the last norm divides by them
    logits = lm.logits(states)  # (T, V)
    assert logits.isfinite().all()
    assert len(logits.argmax(-1).unique()) > 10


@pytest.mark.real
@pytest.mark.slow
def test_a_real_model_has_them(real_model: Path) -> None:
    lm = FrozenLM.load(str(real_model))
    layers = magnitudes(lm.model, prompt(lm))
    assert is_real(layers[12:-2])
    assert len({layer.channels[0] for layer in layers[12:-1]}) == 1
    assert layers[-1].first < 100
    assert layers[0].first < 20
    assert all(0.2 < share < 0.7 for share in resting(lm)[12:])


def test_a_model_whose_layers_are_fused_has_them_for_a_time() -> None:
    lm = embedded_lm("target", torch.device("cpu")).fuse()
    weights = {name: weight.clone() for name, weight in lm.model.state_dict().items()}
    before = lm.states(prompt(lm))
    with massive_activations(lm):
        assert is_real(magnitudes(lm.model, prompt(lm))[1:-1])
        inside = lm.states(prompt(lm))
        body, lm.body = lm.body, None
        torch.testing.assert_close(inside, lm.states(prompt(lm)), rtol=1e-4, atol=1e-4)
        lm.body = body
    assert not torch.allclose(inside, before, rtol=0, atol=0.1)
    assert torch.equal(lm.states(prompt(lm)), before)
    assert all(torch.equal(weight, weights[name]) for name, weight in lm.model.state_dict().items())


def test_the_small_models_of_benchmarks_can_have_them() -> None:
    rigs = {weights: Rig("tiny", torch.device("cpu"), weights=weights) for weights in WEIGHTS}
    for lm in rigs["massive"].models.values():
        assert is_real(magnitudes(lm.model, prompt(lm))[1:-1])
    for lm in rigs["plain"].models.values():
        assert not is_real(magnitudes(lm.model, prompt(lm))[1:-1])
    plain, other = (quantities(rig.facts | {"step_ms": 1.0}) for rig in rigs.values())
    assert not plain.keys() & other.keys()  # times under other weights are not compared
