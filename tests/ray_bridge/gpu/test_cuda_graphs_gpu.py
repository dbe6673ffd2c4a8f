"""On a GPU: passes replayed as CUDA graphs train as eager ones do, and never overwrite each other's tensors."""

from pathlib import Path

import pytest
import torch

from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.distributed import Worker
from ray_bridge.gpu.cuda_graphs import GraphedCalls
from ray_bridge.gpu.settings import configure_torch
from ray_bridge.objectives import forward_passes
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer

pytestmark = pytest.mark.gpu
STEPS = 24
"""Each shape runs twice before it is captured: most of these steps replay a graph."""


@pytest.fixture
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device("cuda", 0)


def train(
    folder: Path,
    worker: Worker,
    position: str,
    *,
    graphed: bool,
    steps: int = STEPS,
    autocast: bool = True,
    **models: str | int,
) -> tuple[list[float], Trainer]:
    """Train some steps, and return each step's loss and gradient norm with what was trained."""
    spec = tiny(
        train_examples=64, validation_examples=4, test_examples=4, batch_size=4, warmup_steps=1, eval_every=8,
        num_fewshot=2, soft_position=position, steps=steps, decode_aware=False, learning_rate=1e-4, **models,
    )  # fmt: skip
    run_spec = tiny_run(workers=worker.world, autocast=autocast)
    job = Trainer(spec, run_spec, folder, LocalSession(folder, worker), None)
    if not graphed:
        for calls in job.passes.graphs.values():
            calls.max_graphs = 0
    losses = []
    log = job._log_step

    def watch(step_losses: object, norm: float, *rest: object) -> None:
        losses.extend([step_losses.total, norm])  # type: ignore[attr-defined]
        log(step_losses, norm, *rest)  # type: ignore[arg-type]

    job._log_step = watch  # type: ignore[method-assign, assignment]
    for _ in range(steps):
        job._train_step()
    job._read_steps()
    return losses, job


@pytest.mark.parametrize("position", ["first", "before_question"])
def test_graphed_passes_train_as_eager_ones(
    tmp_path: Path, device: torch.device, position: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(device=device)
    monkeypatch.setattr(forward_passes, "FEWEST_ANSWERS", 16)
    eager, without = train(tmp_path / "eager", worker, position, graphed=False)
    losses, job = train(tmp_path / "graphed", worker, position, graphed=True)
    assert losses == pytest.approx(eager, rel=1e-4)
    read = {name[1] for name, *_ in job.passes.graphs["student"].graphs}  # type: ignore[misc, index]
    assert (read - {None} != set()) == (position == "first"), "the last layer computes what is read alone"
    for name in ("soft", "student"):
        assert job.passes.graphs[name].graphs, name
        assert not without.passes.graphs[name].graphs
        assert job.passes.graphs[name].eager_calls < without.passes.graphs[name].eager_calls
    assert {id(p) for p in job.parameters} <= {id(p) for p in job.translator.parameters()}, "the module's own"
    job._for_evaluation()
    weights = without.translator.state_dict()
    for name, value in job.translator.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-5)


def test_a_last_layer_of_read_positions_trains_as_one_of_all(
    tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other positions are other kernels: in bfloat16 the bridge's gradients are 6e-3 apart from rounding alone.
    worker, results = Worker(device=device), []
    for fewest in (1 << 20, 16):
        monkeypatch.setattr(forward_passes, "FEWEST_ANSWERS", fewest)
        losses, job = train(tmp_path / str(fewest), worker, "first", graphed=True, autocast=False)
        read = {name[1] for name, *_ in job.passes.graphs["student"].graphs}  # type: ignore[misc, index]
        assert read == {None} if fewest > 16 else read - {None}
        results.append(losses)
    whole, part = results
    assert part == pytest.approx(whole, rel=1e-4)


def test_a_call_before_the_last_ones_backward_pass_runs_eagerly(device: torch.device) -> None:
    weight = torch.randn(8, 8, device=device, requires_grad=True)
    calls = GraphedCalls(eager_before=0)

    def call(x: torch.Tensor) -> torch.Tensor:
        return calls("square", lambda inputs, parameters: (inputs[0] @ parameters[0]).square(), [x], [weight])

    first, second = (torch.randn(4, 8, device=device, requires_grad=True) for _ in range(2))
    one = call(first)
    two = call(second)
    assert (len(calls.graphs), calls.eager_calls) == (1, 1)
    (one.sum() + two.sum()).backward()
    both = [x.grad.clone() for x in (first, second, weight) if x.grad is not None]
    first.grad = second.grad = weight.grad = None
    ((first @ weight).square().sum() + (second @ weight).square().sum()).backward()
    for mine, truth in zip(both, (first.grad, second.grad, weight.grad), strict=True):
        torch.testing.assert_close(mine, truth)
    with torch.no_grad():
        weight.mul_(2)
    third = call(second)  # the first value and its autograd graph are still held
    assert calls.eager_calls == 1
    torch.testing.assert_close(third, (second @ weight).square())
    third.sum().backward(retain_graph=True)
    call(first)
    assert calls.eager_calls == 2, "a backward pass that can be repeated leaves its graph in use"
    third.sum().backward()
    call(first)  # nobody holds its value, and it has no backward pass
    call(first)
    assert calls.eager_calls == 2


def test_memory_is_freed_with_the_graphs(device: torch.device) -> None:
    configure_torch(device)
    weight = torch.randn(2048, 2048, device=device, requires_grad=True)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    calls = GraphedCalls(eager_before=0)
    for rows in (1024, 2048, 4096):
        x = torch.randn(rows, 2048, device=device, requires_grad=True)
        value = calls("chain", lambda inputs, parameters: _chain(inputs[0], parameters[0]), [x], [weight])
        value.sum().backward()
        del value, x
    held = torch.cuda.memory_reserved() - before
    assert held < 1.6 * 40 * 4096 * 2048 * 4  # of one graph, not of three
    del calls
    weight.grad = None
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() - before < 2**28


def test_graphs_may_go_while_their_last_replay_still_runs(device: torch.device) -> None:
    """Their memory is unmapped when they go, which must not happen under a kernel that uses it."""
    configure_torch(device)
    weight = torch.randn(2048, 2048, device=device, requires_grad=True)
    for _ in range(5):
        calls = GraphedCalls(eager_before=0)
        x = torch.randn(8192, 2048, device=device, requires_grad=True)
        for _ in range(3):
            value = calls("chain", lambda inputs, parameters: _chain(inputs[0], parameters[0]), [x], [weight])
            value.sum().backward()
        del calls, value
        torch.cuda.empty_cache()
    torch.cuda.synchronize()


def _chain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    for _ in range(20):
        x = (x @ weight).tanh()
    return x
