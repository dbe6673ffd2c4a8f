"""The flow, its sampler, and the DiT that predicts for it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ray_bridge.bridges.dit import OVERRIDABLE, DiTBridge
from ray_bridge.bridges.layers import ExactScale, ResidualStream
from ray_bridge.bridges.rectified_flow import flow_error, sample
from ray_bridge.inputs.resample import resample


def make_bridge(**changes: object) -> DiTBridge:
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "source_size": 12,
        "target_size": 20,
        "target_rms": 0.3,
        "soft_tokens": 6,
        "width": 16,
        "depth": 2,
        "heads": 2,
        "steps": 4,
        "prediction": "x1",
        "pooling": "mean",
        "cross": False,
        "guidance": 1.0,
    }
    return DiTBridge(**(settings | changes))  # type: ignore[arg-type]


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(3, 5, 12, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    return states, mask, torch.randn(3, 6, 20, generator=generator)


@pytest.mark.parametrize("prediction", ["x1", "velocity"])
def test_an_exact_network_takes_noise_to_data(prediction: str) -> None:
    data, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    network = (lambda x, t: data) if prediction == "x1" else (lambda x, t: data - noise)
    assert torch.allclose(sample(network, noise, 4, prediction), data, atol=1e-6)  # type: ignore[arg-type]
    error = flow_error(network, data, noise, torch.tensor([0.2, 0.9]), prediction)  # type: ignore[arg-type]
    assert torch.equal(error, torch.zeros(2))


def test_the_sampler_evaluates_at_the_steps_of_the_contract() -> None:
    seen: list[float] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(t[0]))
        return torch.zeros_like(x)

    sample(network, torch.randn(1, 2, 3), 4, "velocity")
    assert seen == [0, 0.25, 0.5, 0.75]


def test_the_path_runs_from_noise_at_0_to_data_at_1() -> None:
    data, noise, seen = torch.ones(1, 1, 1), torch.zeros(1, 1, 1), []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(x))
        return x

    for time in (0.0, 0.25, 1.0):
        flow_error(network, data, noise, torch.tensor([time]), "x1")
    assert seen == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("prediction", ["x1", "velocity"])
@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("cross", [False, True])
def test_scale_is_exact_and_every_parameter_learns(prediction: str, pooling: str, cross: bool) -> None:
    bridge = make_bridge(prediction=prediction, pooling=pooling, cross=cross)
    states, mask, noise = inputs()
    optimiser = torch.optim.Adam(bridge.parameters(), lr=0.01)
    for _ in range(6):  # gates and head start at 0: gradients reach the inner layers step by step
        optimiser.zero_grad()
        z = bridge(states, mask, noise, torch.tensor([False, False, True]))
        goal = torch.linspace(-1, 1, z.numel()).view_as(z)
        times = torch.tensor([0.1, 0.5, 0.9])
        loss = (z - goal).pow(2).sum() + bridge.flow_loss(states, mask, goal, noise, times).sum()
        loss.backward()
        optimiser.step()
    still = [name for name, p in bridge.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []
    rms = z.pow(2).mean(-1).sqrt()
    with torch.no_grad():
        expected = 0.3 * bridge.scale.gain
        rms = bridge(states, mask, noise).pow(2).mean(-1).sqrt()
    assert torch.allclose(rms, expected.abs().expand_as(rms), rtol=1e-5)


def test_scale_ignores_the_size_of_its_input() -> None:
    scale = ExactScale(0.2)
    z = torch.randn(2, 3, 8, dtype=torch.float64) * torch.tensor([1e-6, 1e6]).view(2, 1, 1)
    assert torch.allclose(scale(z).pow(2).mean(-1).sqrt(), torch.full((2, 3), 0.2, dtype=torch.float64), rtol=1e-6)


def test_positions_of_slots_matter() -> None:
    bridge = make_bridge()
    _open_gates(bridge)
    states, mask, noise = inputs()
    order = torch.tensor([1, 0, 2, 3, 4, 5])
    with torch.no_grad():
        bridge.prior.zero_()  # type: ignore[union-attr]
        swapped = bridge(states, mask, noise[:, order])
        assert not torch.allclose(swapped, bridge(states, mask, noise)[:, order], atol=1e-3)
        bridge.slots.zero_()
        assert torch.allclose(bridge(states, mask, noise[:, order]), bridge(states, mask, noise)[:, order], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("cross", [False, True])
def test_pads_of_the_source_are_never_read(pooling: str, cross: bool) -> None:
    bridge = make_bridge(pooling=pooling, cross=cross)
    _open_gates(bridge)
    states, mask, noise = inputs()
    spoiled = torch.where(mask[..., None] == 0, torch.full_like(states, 1e3), states)
    with torch.no_grad():
        assert torch.allclose(bridge(states, mask, noise), bridge(spoiled, mask, noise), atol=1e-6)
        alone = bridge(states[1:2, :3], mask[1:2, :3], noise[1:2])
        assert torch.allclose(bridge(states, mask, noise)[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("cross", [False, True])
def test_a_row_without_condition_reads_nothing_of_its_source(pooling: str, cross: bool) -> None:
    """Guidance learns from such rows what is predicted without a question; a leak would teach it the question."""
    bridge = make_bridge(pooling=pooling, cross=cross)
    _open_gates(bridge)
    states, mask, noise = inputs()
    dropped, times = torch.tensor([False, True, True]), torch.tensor([0.1, 0.5, 0.9])
    other = states.clone()
    other[1:] += 3 * torch.randn(other[1:].shape, generator=torch.Generator().manual_seed(2))
    data = torch.ones(3, 6, 20)
    with torch.no_grad():
        losses = [bridge.flow_loss(source, mask, data, noise, times, dropped) for source in (states, other)]
        soft = [bridge(source, mask, noise, dropped) for source in (states, other)]
        read = [bridge(source, mask, noise) for source in (states, other)]
    assert torch.equal(losses[0][1:], losses[1][1:])
    assert torch.equal(soft[0][1:], soft[1][1:])
    assert not torch.allclose(read[0][1:], read[1][1:], atol=1e-3), "with its condition a row reads its source"


@pytest.mark.parametrize("cross", [False, True])
def test_guidance_of_1_is_none_and_0_ignores_the_source(cross: bool) -> None:
    plain, free, strong = (make_bridge(cross=cross, guidance=guidance) for guidance in (1.0, 0.0, 3.0))
    for bridge in (plain, free, strong):
        _open_gates(bridge)
    states, mask, noise = inputs()
    with torch.no_grad():
        everyone = torch.ones(3, dtype=torch.bool)
        assert torch.allclose(free(states, mask, noise), plain(states, mask, noise, everyone), atol=1e-5)
        assert not torch.allclose(strong(states, mask, noise), plain(states, mask, noise), atol=1e-2)


def test_resample_keeps_ends_and_is_linear_between() -> None:
    line = torch.arange(5.0)[:, None]
    assert torch.allclose(resample(line, 9)[:, 0], torch.arange(9) / 2)
    assert torch.equal(resample(line, 5), line)
    assert torch.equal(resample(line[:1], 3), torch.zeros(3, 1))
    assert resample(line[:0], 3).shape == (3, 1)


def test_fresh_bridges_differ_by_slot_and_have_unit_direction() -> None:
    bridge = make_bridge()
    z = bridge(*inputs())
    assert math.isfinite(float(z.detach().sum()))
    assert not torch.allclose(z[:, 0], z[:, 1])


def _open_gates(bridge: DiTBridge) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in bridge.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)


def beside(bridge: DiTBridge, dropped: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    """Return soft tokens, flow loss and gradients, first computed one after the other and then together."""
    bridge = bridge.double()
    states, mask, start = inputs()
    states, start, noise, data = states.double(), start.double(), start.flip(0).double(), torch.randn(3, 6, 20).double()
    times = torch.tensor([0.1, 0.5, 0.8]).double()
    separately = bridge(states, mask, start), bridge.flow_loss(states, mask, data, noise, times, dropped)
    together = bridge.soft_and_flow_loss(states, mask, start, data, noise, times, dropped)
    weights = torch.randn(start.shape, generator=torch.Generator().manual_seed(7)).double()

    def with_gradients(soft: Tensor, error: Tensor) -> list[Tensor]:
        loss = (soft * weights).sum() + 0.3 * error.sum()
        gradients = torch.autograd.grad(loss, list(bridge.parameters()), allow_unused=True)
        return [soft, error, *(torch.zeros(()) if g is None else g for g in gradients)]

    return with_gradients(*separately), with_gradients(*together)


def unsettled(bridge: DiTBridge) -> DiTBridge:
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return bridge


@pytest.mark.parametrize("dropped", [None, torch.tensor([False, True, False])], ids=["kept", "dropped"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prediction": "velocity", "steps": 1},
        {"pooling": "attention", "cross": True, "steps": 3},
        {"cross": True},
        {"guidance": 2.0},
    ],
    ids=str,
)
def test_the_flow_beside_the_sampler_is_the_flow_after_it(changes: dict[str, object], dropped: Tensor | None) -> None:
    separately, together = beside(unsettled(make_bridge(**changes)), dropped)
    for a, b in zip(separately, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_the_flow_takes_no_evaluation_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge, rows = make_bridge(), []
    modulated = DiTBridge.modulated
    monkeypatch.setattr(DiTBridge, "modulated", lambda self, x, *rest: rows.append(len(x)) or modulated(self, x, *rest))
    states, mask, noise = inputs()
    bridge.soft_and_flow_loss(states, mask, noise, noise, noise, torch.rand(3))
    assert rows == [6, 3, 3, 3]
    rows.clear()
    bridge(states, mask, noise)
    bridge.flow_loss(states, mask, noise, noise, torch.rand(3))
    assert rows == [3] * 5


@pytest.mark.parametrize("name", OVERRIDABLE)
def test_a_subclass_that_computes_its_own_way_does_so_beside_its_flow(name: str) -> None:
    calls: list[str] = []

    def own(self: DiTBridge, *inputs: Any, **named: Any) -> Any:
        calls.append(name)
        return getattr(DiTBridge, name)(self, *inputs, **named)

    bridge = unsettled(make_bridge())
    bridge.__class__ = type("Mine", (DiTBridge,), {name: own})
    states, mask, start = inputs()
    data, noise, times = start.flip(0), start.flip(1), torch.tensor([0.1, 0.5, 0.8])
    separately = bridge(states, mask, start), bridge.flow_loss(states, mask, data, noise, times)
    expected = len(calls)
    together = bridge.soft_and_flow_loss(states, mask, start, data, noise, times)
    assert len(calls) == 2 * expected > 0
    assert all(torch.equal(a, b) for a, b in zip(separately, together, strict=True))


def test_an_update_that_nobody_read_is_not_lost() -> None:
    stream = ResidualStream(torch.zeros(1, 2, 4), heads=1)
    stream.add(torch.ones(1, 4), torch.ones(1, 2, 4))
    with pytest.raises(RuntimeError, match="has not been read"):
        stream.add(torch.ones(1, 4), torch.ones(1, 2, 4))
