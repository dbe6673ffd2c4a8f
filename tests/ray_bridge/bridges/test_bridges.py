"""What every bridge promises: shape, scale, independence of pads, sight of order where it attends, gradient."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from bridge_common.errors import UserError
from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.config.presets import tiny
from ray_bridge.config.spec import JobSpec
from ray_bridge.evaluation.selection import load_weights
from ray_bridge.inputs.source_batch import SourceBatch
from tests.support.model_pairs import frozen

BRIDGES = ("dit", "resampler", "dit_xattn")


def settings(bridge: str, **changes: Any) -> JobSpec:
    small = {"soft_tokens": 3, "hidden_size": 16, "depth": 2, "num_heads": 2, "sampler_steps": 2}
    return tiny(**{**small, "bridge": bridge, "geometry_projection": False, **changes})


def opened(spec: JobSpec) -> TranslatorModule:
    """A translator as after some training: the gates that start at zero are open."""
    translator = build_translator(spec, frozen("mistral", 48), frozen("llama", 32))
    noise = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in translator.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
    return translator


def read(length: int = 6, pads: int = 0) -> SourceBatch:
    states = torch.randn(2, length, 48, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(2, length + pads, dtype=torch.long)
    mask[:, length:] = 0
    return SourceBatch(states=nn.functional.pad(states, (0, 0, 0, pads), value=7.0), mask=mask, items=())


def noise() -> Tensor:
    return torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("bridge", BRIDGES)
def test_soft_tokens_have_the_targets_scale(bridge: str) -> None:
    translator = opened(settings(bridge))
    z = translator(read(), noise())
    assert z.shape == (2, 3, 32)
    expected = frozen("llama", 32).embedding_rms * float(translator.scale.gain.detach().abs())
    torch.testing.assert_close(z.pow(2).mean(-1).sqrt(), torch.full((2, 3), expected))
    assert (z[:, 0] - z[:, 1]).abs().max() > 1e-3  # the slots are not copies of each other


@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_pads_are_never_read(bridge: str, pooling: str) -> None:
    translator = opened(settings(bridge, pooling=pooling))
    torch.testing.assert_close(translator(read(pads=4), noise()), translator(read(), noise()))


@pytest.mark.parametrize("bridge", BRIDGES)
def test_order_matters_where_the_sequence_is_attended_to(bridge: str) -> None:
    translator = opened(settings(bridge))
    source = read()
    backwards = SourceBatch(states=source.states.flip(1), mask=source.mask, items=())
    change = (translator(source, noise()) - translator(backwards, noise())).abs().max()
    assert (change > 1e-3) == (bridge != "dit")  # pooled states have no order


@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_every_parameter_of_an_open_bridge_learns(bridge: str, pooling: str) -> None:
    translator = opened(settings(bridge, pooling=pooling, guidance_scale=2.0))
    (translator(read(), noise()) * torch.randn(2, 3, 32)).sum().backward()
    for name, parameter in translator.named_parameters():
        if name.endswith("keys.bias"):
            continue  # a shift of all of a softmax's inputs changes nothing
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("bridge", BRIDGES)
def test_a_bridge_can_be_trained_from_its_start(bridge: str) -> None:
    """After a few steps every weight has moved: nothing stays shut behind a zero gate."""
    translator = build_translator(settings(bridge, pooling="attention"), frozen("mistral", 48), frozen("llama", 32))
    before = copy.deepcopy(dict(translator.named_parameters()))
    optimiser = torch.optim.SGD(translator.parameters(), lr=0.5)
    data = torch.randn(2, 3, 32)
    for _ in range(8):
        loss = (translator(read(), noise()) - data).pow(2).sum()
        if translator.flow is not None:
            times, dropped = torch.tensor([0.3, 0.6]), torch.tensor([True, False])
            loss = loss + translator.flow_error(data, noise(), times, dropped, *translator.bridge_inputs(read())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, parameter in translator.named_parameters():
        if not name.endswith("keys.bias"):
            assert not torch.equal(parameter, before[name]), name


def test_the_constant_prompt_reads_nothing_and_learns() -> None:
    """The control without a source: the same tokens whatever is read, and gradient in all that it has."""
    translator = opened(settings("constant"))
    other = SourceBatch(states=-read().states, mask=read().mask, items=())
    z = translator(read(), noise())
    assert torch.equal(translator(other, 3 - noise()), z)
    assert torch.equal(z[0], z[1])
    expected = frozen("llama", 32).embedding_rms * float(translator.scale.gain.detach().abs())
    torch.testing.assert_close(z.pow(2).mean(-1).sqrt(), torch.full((2, 3), expected))
    assert (z[:, 0] - z[:, 1]).abs().max() > 1e-3
    (z * torch.randn(3, 32)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in translator.named_parameters()}
    assert set(gradients) == {"bridge.prompt", "bridge.scale.gain"}
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients.values())


def test_the_resampler_is_a_regression() -> None:
    translator = opened(settings("resampler"))
    assert torch.equal(translator(read(), noise()), translator(read(), 3 - noise()))
    assert translator.flow is None


@pytest.mark.parametrize(
    ("spec", "second"),
    [(settings("dit"), "flow"), (settings("linear", steps=0, flow_teacher="answer"), "regression")],
    ids=["dit", "linear"],
)
def test_a_file_holds_each_weight_once_and_older_ones_are_read(spec: JobSpec, second: str, tmp_path: Path) -> None:
    translator = opened(spec)
    weights = translator.state_dict()
    storages = [tensor.data_ptr() for tensor in weights.values()]
    assert len(set(storages)) == len(storages)
    older = weights | {
        name.replace("bridge.", f"{second}.", 1): value.clone() for name, value in weights.items() if "bridge." in name
    }
    assert len(older) > len(weights)
    (tmp_path / "older.safetensors").write_bytes(save(older))
    fresh = build_translator(spec, frozen("mistral", 48), frozen("llama", 32))
    load_weights(tmp_path / "older.safetensors", fresh)
    assert fresh.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in copy.deepcopy(fresh).state_dict().items())
    del older[next(name for name in weights if name.startswith("bridge."))]
    (tmp_path / "torn.safetensors").write_bytes(save(older))
    with pytest.raises(UserError, match="does not hold this translator's weights"):
        load_weights(tmp_path / "torn.safetensors", fresh)
    with pytest.raises(UserError, match="does not hold this translator's weights: No such file"):
        load_weights(tmp_path / "missing.safetensors", fresh)
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(UserError, match="it is a pipe"):
        load_weights(tmp_path / "pipe.safetensors", fresh)
