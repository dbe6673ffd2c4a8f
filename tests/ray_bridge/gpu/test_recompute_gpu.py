"""On a GPU: layers that run again in the backward pass can be captured, change no gradient and take less memory."""

import pytest
import torch

from ray_bridge.bridges.translator import build_translator
from ray_bridge.config.presets import tiny
from ray_bridge.inputs.layout import assemble
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.forward_passes import ForwardPasses
from tests.support.decoding_rows import rows_of, tokens_of

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("fused", [True, False])
def test_recomputed_passes_are_captured_and_equal(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    lm = FrozenLM.load("embedded:target", dtype="bfloat16", device="cuda")
    if not fused:
        monkeypatch.setattr(lm, "body", None)
    translator = build_translator(tiny(geometry_projection=False), lm, lm)
    rows, gradients, peaks = rows_of(lm, 16, header=2, answers=True), [], []
    for above in (None, 0):
        passes = ForwardPasses(translator, lm, recompute_above=above)
        for _ in range(5):  # the first calls run eagerly, the later ones are captured and replayed
            soft = tokens_of(lm, 16).requires_grad_()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            hidden = passes.hidden(assemble(lm, rows, SoftContext(tokens=soft), pad="right"))
            (gradient,) = torch.autograd.grad(hidden.float().sin().sum(), soft)
            peaks.append(torch.cuda.max_memory_allocated() - before)
        gradients.append(gradient.float())
        assert bool(passes.graphs["student"].graphs) == fused
        passes.release()
        assert not passes.graphs["student"].graphs
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 2e-2
    assert peaks[5] < 0.7 * peaks[0]  # the first, eager calls
