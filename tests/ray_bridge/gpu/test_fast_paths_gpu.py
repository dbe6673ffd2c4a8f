"""On a GPU: captured decoding writes the eager text under trained weights; half precision stays within rounding."""

from dataclasses import replace

import pytest
import torch

from ray_bridge.generation import graphed, graphed_batch
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.layout import answer_row, assemble, common_prefix
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import generator
from ray_bridge.tasks.synthetic.task import SyntheticTask
from tests.support.decoding_rows import adapters_of, tokens_of

pytestmark = pytest.mark.gpu
TASK = SyntheticTask(train_examples=20, test_examples=24)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def lm(request: pytest.FixtureRequest) -> FrozenLM:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return FrozenLM.load("embedded:target", dtype=request.param, device="cuda")


@pytest.mark.parametrize("room", [24, 7])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("fused", [True, False])
def test_captured_decoding_writes_the_eager_text(
    lm: FrozenLM, fused: bool, sampled: bool, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where memory holds seven rows, and the others wait or, without fused layers, follow."""
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 4)
    monkeypatch.setattr(graphed, "rows_that_fit", lambda lm, slots: room)
    if not fused:
        monkeypatch.setattr(lm, "body", None)
    header = TASK.header(TASK.train()[:3])
    rows = [answer_row(lm, header, TASK.prompt(e), None, soft_after_header=True) for e in TASK.test()]

    def draws() -> Sampling | None:
        return Sampling(temperature=1.0, generators=[generator("d", i) for i in range(24)]) if sampled else None

    statistics = DecodingStatistics()
    captured = decode_graphed(lm, rows, None, 64, draws(), statistics=statistics)
    assert statistics.captured > 0
    assert statistics.refilled == (24 - room if fused else 0)
    if fused and lm.dtype == torch.bfloat16:
        assert statistics.retired == 0, "kernels do not read ended rows, so few rows stay as they are"
    eager = decode_eager(lm, rows, None, 64, draws())
    same = sum(a == b for a, b in zip(captured, eager, strict=True))
    assert same == 24 if lm.dtype == torch.float32 else same >= 12


def test_captured_decoding_reads_adapters(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 4)
    adapters = adapters_of(lm).float().adapters
    rows = [
        replace(row, injection="adapter")
        for row in (answer_row(lm, "", TASK.prompt(e), None, soft_after_header=False) for e in TASK.test())
    ]
    soft, statistics = SoftContext(adapters=adapters, tokens=tokens_of(lm, 24)), DecodingStatistics()
    captured = decode_graphed(lm, rows, soft, 64, statistics=statistics)
    assert statistics.captured > 0
    eager = decode_eager(lm, rows, soft, 64)
    same = sum(a == b for a, b in zip(captured, eager, strict=True))
    assert same == 24 if lm.dtype == torch.float32 else same >= 12
    for adapter in adapters.values():
        adapter.up.weight.data.mul_(16)  # as they are, they change one answer in fp32, and none in bf16
    strong, alone = decode_graphed(lm, rows, soft, 64), decode_graphed(lm, rows, None, 64)
    assert sum(a != b for a, b in zip(strong, alone, strict=True)) >= 6


def test_fused_layers_and_the_header_stay_within_rounding(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    header = TASK.header(TASK.train()[:3])
    rows = [answer_row(lm, header, TASK.prompt(e), "7", soft_after_header=True) for e in TASK.test()[:4]]
    prefix = common_prefix(lm, rows, soft=False)
    assert prefix is not None
    whole, short = assemble(lm, rows, None, pad="right"), assemble(lm, rows, None, pad="right", prefix=prefix)
    with torch.no_grad():
        fused = lm.logits(lm.hidden(whole.embeds, whole.mask, whole.positions)[whole.labels >= 0])
        after_prefix = lm.logits(lm.hidden(short.embeds, short.mask, short.positions, prefix=prefix)[short.labels >= 0])
        monkeypatch.setattr(lm, "body", None)
        eager = lm.logits(lm.hidden(whole.embeds, whole.mask, whole.positions)[whole.labels >= 0])
    tolerance = 1e-4 if lm.dtype == torch.float32 else 3e-2
    for logits in (fused, after_prefix):
        assert float((logits - eager).norm() / eager.norm()) < tolerance


def test_the_last_layer_computes_what_is_read_with_the_same_gradients(lm: FrozenLM) -> None:
    header = TASK.header(TASK.train()[:3])
    rows = [answer_row(lm, header, TASK.prompt(e), "7", soft_after_header=False) for e in TASK.test()[:4]]
    batch = assemble(lm, rows, None, pad="right")
    read, results = batch.mask.shape[1] - batch.answers.first, []
    assert read < batch.mask.shape[1] / 2
    for last in (None, read):
        embeds = batch.embeds.detach().clone().requires_grad_()
        states = lm.hidden(embeds, batch.mask, batch.positions, right_padded=True, last=last)[batch.labels >= 0]
        (gradient,) = torch.autograd.grad(lm.logits(states).logsumexp(-1).sum(), embeds)
        results.append((states.detach().float(), gradient.float()))
    tolerance = 1e-4 if lm.dtype == torch.float32 else 3e-2
    for whole, part in zip(*results, strict=True):
        assert float((part - whole).norm() / whole.norm()) < tolerance
