"""On a GPU: a target with weights of 8 bits has the gradients and texts of their values, and half of the memory."""

import copy
import gc
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.distributed import Worker
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.layout import answer_row
from ray_bridge.models.eight_bits import has_eight_bits, held_bytes, values_of
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer

pytestmark = pytest.mark.gpu
pytest.importorskip("torchao", reason="target_precision=int8 needs torchao")
NAME = "embedded:target"
TASK = SyntheticTask(train_examples=20, test_examples=12)
ROUNDINGS = {"float32": 1e-5, "bfloat16": 2e-2}
"""How far two ways to compute one thing may be apart, by dtype, relative to its norm."""


@pytest.fixture(scope="module")
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device("cuda", 0)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def lm(request: pytest.FixtureRequest, device: torch.device) -> FrozenLM:
    return FrozenLM.load(NAME, dtype=request.param, device=device, precision="int8")


def written_out(lm: FrozenLM) -> FrozenLM:
    """Return the model whose weights are the rounded ones' values, run by transformers' layers, too."""
    model = FrozenLM.load(NAME, dtype=str(lm.dtype).removeprefix("torch."), device="cpu").model
    values = dict(lm.model.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.data = values_of(values[name]).detach().cpu()
    return FrozenLM(copy.deepcopy(model).to(lm.device), lm.tokenizer, "values")


def step(lm: FrozenLM, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return logits after soft tokens, the loss's gradient to them, and the bytes that the backward pass waits with."""
    soft = z.to(lm.dtype).requires_grad_()
    mask = torch.ones(soft.shape[:2], dtype=torch.long, device=lm.device)
    before = torch.cuda.memory_allocated(lm.device)
    logits = lm.logits(lm.hidden(soft, mask, mask.cumsum(-1) - 1))
    kept = torch.cuda.memory_allocated(lm.device) - before
    (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[..., 7].sum(), soft)
    return logits.detach(), gradient, kept


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def test_gradients_are_those_of_the_written_out_values(lm: FrozenLM) -> None:
    assert has_eight_bits(lm.model)
    assert {p.device.type for p in lm.model.parameters()} == {"cuda"}
    z = torch.randn(4, 24, lm.hidden_size, generator=torch.Generator().manual_seed(1)).to(lm.device) * lm.embedding_rms
    step(lm, z)  # libraries take their workspaces
    mine, expected = step(lm, z), step(written_out(lm), z)
    bound = ROUNDINGS[str(lm.dtype).removeprefix("torch.")]
    for one, other in zip(mine[:2], expected[:2], strict=True):
        assert one.isfinite().all()
        assert relative(one, other) < bound
    # No weights in full wait for the backward pass: what was kept is what the written-out model keeps.
    weights = sum(p.numel() * lm.dtype.itemsize for p in lm.layers.parameters())
    assert mine[2] < expected[2] + weights / 4


def test_it_says_which_ways_are_off_and_decodes_the_eager_text_by_graphs(lm: FrozenLM) -> None:
    assert lm.body is None
    assert lm.slow_paths() == f"{lm.name}: its layers are run eagerly (its weights have 8 bits)"  # graphs are not off
    header = TASK.header(TASK.train()[:3])
    rows = [answer_row(lm, header, TASK.prompt(e), None, soft_after_header=True) for e in TASK.test()]
    statistics = DecodingStatistics()
    texts = decode_rows(lm, rows, None, 48, statistics=statistics)
    assert (statistics.captured > 0, statistics.uncapturable) == (True, {})
    eager = decode_eager(lm, rows, None, 48)
    same = sum(a == b for a, b in zip(texts, eager, strict=True))
    assert same == len(rows) if lm.dtype == torch.float32 else same >= len(rows) // 2


def test_weights_of_layers_take_half_of_bfloat16(device: torch.device) -> None:
    counted, allocated = [], []
    for precision in ("full", "full", "int8"):  # the first load takes workspaces, too
        gc.collect()
        before = torch.cuda.memory_allocated(device)
        lm = FrozenLM.load(NAME, dtype="bfloat16", device=device, precision=precision)  # type: ignore[arg-type]
        gc.collect()
        counted.append(held_bytes(lm.layers))
        allocated.append(torch.cuda.memory_allocated(device) - before - held_bytes(lm.model) + counted[-1])
        del lm
    print(f"layers in full and int8: counted {counted[1:]}, allocated {allocated[1:]}")
    assert 0.5 < counted[-1] / counted[1] < 0.6  # each of the small model's short rows has a scale in fp32
    assert 0.4 < allocated[-1] / allocated[1] < 0.75


@pytest.mark.parametrize("position", ["first", "before_question"])
def test_a_job_trains_on_it(tmp_path: Path, device: torch.device, position: str) -> None:
    changes: dict[str, Any] = {"target_precision": "int8", "eval_dtype": "as_trained", "soft_position": position}
    spec = tiny(
        train_examples=64, validation_examples=4, test_examples=4, batch_size=4, warmup_steps=1, eval_every=8,
        num_fewshot=2, steps=8, **changes,
    )  # fmt: skip
    job = Trainer(spec, tiny_run(workers=1), tmp_path, LocalSession(tmp_path, Worker(device=device)), None)
    assert has_eight_bits(job.pair.target.model)
    assert not has_eight_bits(job.pair.source.model)
    assert "its weights have 8 bits" in job.pair.slow_paths()["slow/target"]
    recorded: list[float] = []
    log = job._log_step

    def watch(losses: Any, norm: float, *rest: Any) -> None:
        recorded.extend([losses.total, norm])
        log(losses, norm, *rest)

    job._log_step = watch  # type: ignore[method-assign]
    for _ in range(6):
        job._train_step()
    job._read_steps()
    assert len(recorded) == 12
    assert all(math.isfinite(value) and value > 0 for value in recorded)
