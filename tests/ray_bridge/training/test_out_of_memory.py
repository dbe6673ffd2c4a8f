"""Where memory runs out, one line says in which part and what to change, and the process can go on."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.files import read_json, write_json
from ray_bridge.config.presets import tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.objectives.objective import WeightedTerm
from ray_bridge.objectives.step_context import StepContext, Term
from ray_bridge.training import ray_worker
from ray_bridge.training.out_of_memory import NamesOutOfMemory, OutOfMemoryError, is_out_of_memory
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import recorded

KEPT: list[weakref.ref[Tensor]] = []


def too_large(step: StepContext) -> Term:
    """Fail as the allocator does, while tensors of the step are in the frame."""
    hidden = step.student_hidden
    KEPT.append(weakref.ref(hidden))
    return Term(total=(hidden.sum() + torch.empty(1 << 50)).sum(), count=1.0)


def trainer_of(spec: JobSpec, folder: Path) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(spec, tiny_run(workers=1, checkpoint_every=2), folder, LocalSession(folder), folder / "cache")


def test_a_step_that_does_not_fit_leaves_a_process_that_trains_on(
    spec: JobSpec, finished: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(spec, tmp_path)
    terms = trainer.terms
    trainer.terms = [*terms, WeightedTerm(name="huge", weight=1.0, compute=too_large, every=3)]
    with pytest.raises(OutOfMemoryError) as caught:
        trainer.run()
    message = str(caught.value)
    assert message.startswith("out of memory in a training step (")
    assert "\n" not in message
    assert "recompute_tokens=0" in message
    gc.collect()
    assert [kept() for kept in KEPT] == [None]  # while the error is still held
    (tmp_path / "events.jsonl").unlink()
    trainer = trainer_of(spec, tmp_path / "again")
    trainer.run()
    assert recorded(tmp_path / "again") == recorded(finished)


def test_an_evaluation_that_does_not_fit_says_so(
    spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(spec, tmp_path)
    monkeypatch.setattr(Evaluator, "_answer", lambda *_: torch.empty(1 << 50))
    with pytest.raises(OutOfMemoryError, match=r"out of memory in an evaluation .*lower eval_batch_size"):
        trainer.run()


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shape"), NamesOutOfMemory("a training step"):
        torch.zeros(2).view(3)
    assert not is_out_of_memory(RuntimeError("shape"))
    assert is_out_of_memory(MemoryError())


def test_a_refusal_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted worker raises what its predecessor refused, before it loads anything."""
    calls: list[Any] = []

    def refuse(config: Any, *_: object) -> None:
        calls.append(config)
        raise OutOfMemoryError("out of memory in a training step: use less")

    monkeypatch.setattr(ray_worker, "_train", refuse)
    (tmp_path / ray_worker.TRAIN).mkdir()
    config = {"folder": str(tmp_path)}
    for _ in range(3):
        with pytest.raises(UserError, match="use less"):
            ray_worker.run_worker(config)
    assert len(calls) == 1
    refused = tmp_path / ray_worker.TRAIN / ray_worker.REFUSED
    assert read_json(refused) == {"reason": "out of memory in a training step: use less"}
    write_json(refused, {"reason": "an older one"})
    with pytest.raises(UserError, match="an older one"):
        ray_worker.run_worker(config)


@pytest.mark.gpu
def test_a_gpu_that_is_full_can_be_used_again(spec: JobSpec, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    from ray_bridge.distributed import Worker

    def on_gpu(folder: Path) -> Trainer:
        worker = Worker(device=torch.device("cuda"))
        return Trainer(spec, tiny_run(workers=1), folder, LocalSession(folder, worker), folder / "cache")

    trainer = on_gpu(tmp_path / "full")
    held: list[Tensor] = []
    ordinary = trainer._train_step

    def full_from_the_fifth_step() -> None:
        if trainer.step == 4 and not held:
            torch.cuda.empty_cache()
            held.append(torch.empty(torch.cuda.mem_get_info()[0] - (8 << 20), dtype=torch.uint8, device="cuda"))
            held.append(torch.empty(1 << 40, dtype=torch.uint8, device="cuda"))
        ordinary()

    trainer._train_step = full_from_the_fifth_step  # type: ignore[method-assign]
    with pytest.raises(OutOfMemoryError, match="a training step"):
        trainer.run()
    held.clear()
    torch.cuda.empty_cache()
    assert on_gpu(tmp_path / "again").run()["steps"] == spec.steps
    torch.cuda.synchronize()
