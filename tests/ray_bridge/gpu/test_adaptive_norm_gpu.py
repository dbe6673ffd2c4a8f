"""On a GPU: a bridge whose adaptive layer norms are kernels is as near to fp32 as one without them."""

import pytest
import torch
from torch import Tensor

from ray_bridge.gpu.kernels import adaptive_norm
from tests.ray_bridge.bridges.test_rectified_flow import make_bridge, unsettled

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("cross", [False, True])
def test_a_bridge_with_kernels_is_as_near_to_fp32(cross: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    sizes = {"source_size": 96, "target_size": 160, "soft_tokens": 24, "width": 128, "heads": 4}
    bridge = unsettled(make_bridge(**sizes, cross=cross)).cuda()
    states, start, noise, data = (torch.randn(5, n, d).cuda() for n, d in ((31, 96), (24, 160), (24, 160), (24, 160)))
    mask, times = torch.ones(5, 31).long().cuda(), torch.rand(5).cuda()

    def run(autocast: bool) -> list[Tensor]:
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            soft, error = bridge.soft_and_flow_loss(states, mask, start, data, noise, times)
        loss = soft.float().pow(3).sum() + error.sum()
        gradients = torch.autograd.grad(loss, list(bridge.parameters()), allow_unused=True)
        return [soft, error, torch.cat([g.flatten() for g in gradients if g is not None])]

    def error_of(found: list[Tensor]) -> Tensor:
        return torch.stack([(a - b).norm() / b.norm() for a, b in zip(found, exact, strict=True)])  # (3,)

    assert adaptive_norm.usable(states.device, torch.bfloat16, 4, 4, 32)
    exact, calls, add_and_modulate = run(autocast=False), [], adaptive_norm.add_and_modulate
    monkeypatch.setattr(adaptive_norm, "add_and_modulate", lambda *inputs: calls.append(1) or add_and_modulate(*inputs))
    with_kernels = error_of(run(autocast=True))
    sub_layers = 3 if cross else 2
    assert len(calls) == 4 * (2 * sub_layers + 1)
    monkeypatch.setattr(adaptive_norm, "usable", lambda *_: False)
    without = error_of(run(autocast=True))
    assert len(calls) == 4 * (2 * sub_layers + 1)
    assert (with_kernels < 1.2 * without + 1e-6).all(), (with_kernels, without)
    assert (without < 0.05).all()
