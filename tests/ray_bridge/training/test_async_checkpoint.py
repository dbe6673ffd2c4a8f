"""Asynchronous checkpoints: complete or absent, of one step, one at a time, and no error of a write is lost."""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from ray_bridge.config.presets import tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.evaluation.selection import Best, Weights, copy_weights
from ray_bridge.training.async_checkpoint import Fill, Snapshot, write_folder
from ray_bridge.training.checkpoint import TrainingState
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import recorded
from tests.support.workers import started

Intercept = Callable[[int, Path, Fill], None]


class InterceptedSession(LocalSession):
    """Calls a function in place of each write, which may delay it or make it fail; the write itself is real."""

    def __init__(self, folder: Path, intercept: Intercept) -> None:
        super().__init__(folder)
        self.intercept = intercept
        self.reported: list[int] = []

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        assert fill is not None
        self.reported.append(step)
        super().report(step, metrics, lambda folder: self.intercept(step, folder, fill))


def make_trainer(spec: JobSpec, folder: Path, intercept: Intercept) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(spec, tiny_run(workers=1, checkpoint_every=3), folder, InterceptedSession(folder, intercept), None)


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_training_continues_while_the_state_at_the_report_is_written(
    spec: JobSpec,
    tmp_path: Path,
    ema_decay: float,
) -> None:
    gate = threading.Event()

    def held(_: int, folder: Path, fill: Fill) -> None:
        gate.wait(60)
        fill(folder)

    trainer = make_trainer(spec.replace(ema_decay=ema_decay), tmp_path, held)
    trainer._train_step()
    trainer.best.offer(1, 0.5, trainer.average or trainer.translator.state_dict())
    weights, average = copy_weights(trainer.translator.state_dict()), copy_weights(trainer.average)
    moments = [copy_weights(state) for state in trainer.optimiser.state_dict()["state"].values()]
    rates = [group["lr"] for group in trainer.optimiser.param_groups]
    trainer._checkpoint()
    for _ in range(2):
        trainer._train_step()
    trainer.best.offer(3, 0.6, trainer.average or trainer.translator.state_dict())
    assert not trainer.session.checkpoints(), "a checkpoint is listed only once it is complete"
    gate.set()
    trainer.session.wait()
    (latest,) = trainer.session.checkpoints()
    loaded = TrainingState.load(latest)
    assert (loaded.step, loaded.best.step, loaded.best.accuracy) == (1, 1, 0.5)
    assert same(loaded.weights, weights)
    assert same(loaded.average, average)
    assert same(loaded.best.weights, average or weights)
    assert all(map(same, loaded.optimiser["state"].values(), moments))
    assert [group["lr"] for group in loaded.optimiser["param_groups"]] == rates
    assert not same(trainer.translator.state_dict(), weights)
    assert rates != [group["lr"] for group in trainer.optimiser.param_groups]


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_report_waits_for_the_write_before_it(spec: JobSpec, tmp_path: Path) -> None:
    first_is_held = threading.Event()
    done: list[tuple[int, list[int]]] = []

    def held(step: int, folder: Path, fill: Fill) -> None:
        if step == 1:
            first_is_held.wait(60)
        fill(folder)
        done.append((step, list(session.reported)))

    trainer = make_trainer(spec, tmp_path, held)
    session = trainer.session
    assert isinstance(session, InterceptedSession)
    trainer._train_step()
    trainer._checkpoint()
    trainer._train_step()
    threading.Timer(0.3, first_is_held.set).start()
    trainer._checkpoint()
    session.wait()
    assert done == [(1, [1]), (2, [1, 2])], "the first was written before the second was reported"


@pytest.mark.parametrize("broken", [3, 12])
def test_an_error_in_a_write_ends_the_job_and_keeps_the_checkpoint_before(
    spec: JobSpec,
    tmp_path: Path,
    broken: int,
) -> None:
    """In the middle, and in the last checkpoint, which nothing but the job's end waits for."""

    def breaks(step: int, folder: Path, fill: Fill) -> None:
        fill(folder)
        if step == broken:
            raise OSError(28, "No space left on device")

    trainer = make_trainer(spec, tmp_path, breaks)
    with pytest.raises(OSError, match="No space left"):
        trainer.run()
    assert isinstance(trainer.session, InterceptedSession)
    assert trainer.session.reported[-1] == broken
    assert [path.name for path in trainer.session.checkpoints()] == ([] if broken == 3 else ["checkpoint-000009"])


def run_and_die(spec: JobSpec, place: Path) -> None:
    """Run a job that is killed when half of its checkpoint at step 6 is written."""

    def dies(step: int, folder: Path, fill: Callable[[Path], None]) -> None:
        fill(folder)
        if step == 6:
            state = folder / "state.pt"
            os.truncate(state, state.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    make_trainer(spec, place, dies).run()


def test_a_job_killed_in_a_write_resumes_from_the_last_complete_checkpoint(
    spec: JobSpec,
    finished: Path,
    tmp_path: Path,
) -> None:
    job = started(run_and_die, spec, tmp_path)
    job.join()
    assert job.exitcode == -signal.SIGKILL
    names = sorted(path.name for path in (tmp_path / "local").iterdir())
    assert names[0] == "checkpoint-000003"
    assert [name.partition("-")[0] for name in names] == ["checkpoint", "unfinished"]
    trainer = make_trainer(spec, tmp_path, lambda _step, folder, fill: fill(folder))
    trainer.run()
    assert isinstance(trainer.session, InterceptedSession)
    assert trainer.session.reported == [6, 9, 12]
    assert recorded(tmp_path) == recorded(finished)
    assert [path.name for path in (tmp_path / "local").iterdir()] == ["checkpoint-000012"]


def test_a_folder_written_twice_is_replaced_and_a_failed_write_leaves_no_trace(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"

    def fails(folder: Path) -> None:
        (folder / "a").write_text("second")
        raise OSError("no more")

    write_folder(place, lambda folder: (folder / "a").write_text("first") and None)
    with pytest.raises(OSError, match="no more"):
        write_folder(place, fails)
    assert (place / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    (tmp_path / "unfinished-of-a-killed-one").mkdir()
    write_folder(place, lambda folder: (folder / "b").write_text("third") and None)
    assert [path.name for path in place.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def make_state(step: int, best: Best, *, average: bool = False, weights: Weights | None = None) -> TrainingState:
    value = torch.full((50_000,), float(step))
    return TrainingState(
        step=step,
        weights=weights or {"w": value},
        optimiser={"state": {0: {"exp_avg": value + 0.25}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        average={"w": value + 0.5} if average else {},
        best=best,
        seconds=1.0,
    )


@pytest.mark.parametrize("average", [False, True])
def test_the_best_weights_are_right_in_every_copy_and_written_once(tmp_path: Path, average: bool) -> None:
    """Best before, at and after the step of a copy, again without change, and changed between two copies."""
    snapshot, sizes = Snapshot(), []
    bests = {step: Best(step=step, accuracy=0.1 * step, weights=weights(step, average)) for step in (1, 4, 5)}
    for step, best in ((2, 1), (3, 1), (4, 4), (5, 4), (6, 5), (7, 5)):
        folder = tmp_path / str(step)
        write_folder(folder, snapshot.take(make_state(step, bests[best], average=average)).save)
        loaded = TrainingState.load(folder)
        assert loaded.best.step == best
        assert same(loaded.best.weights, weights(best, average))
        assert loaded.weights["w"][0] == step
        assert loaded.optimiser["state"][0]["exp_avg"][0] == step + 0.25
        sizes.append(round((folder / "state.pt").stat().st_size / 200_000))
    copies = 3 if average else 2
    assert sizes == [copies + (step != best) for step, best in ((2, 1), (3, 1), (4, 4), (5, 4), (6, 5), (7, 5))]


def weights(step: int, average: bool) -> dict[str, torch.Tensor]:
    return {"w": torch.full((50_000,), step + (0.5 if average else 0.0))}


def test_host_memory_is_reused(tmp_path: Path) -> None:
    snapshot, best = Snapshot(), Best(step=0, accuracy=0.0, weights=weights(0, False))
    first, second = (snapshot.take(make_state(step, best)) for step in (1, 2))
    assert first.weights["w"].data_ptr() == second.weights["w"].data_ptr()
    assert first.best.weights["w"].data_ptr() == second.best.weights["w"].data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_copy_from_a_gpu_is_pinned_and_complete_before_the_state_changes() -> None:
    snapshot = Snapshot()
    state = torch.arange(2**24, device="cuda", dtype=torch.float32)
    for _ in range(3):
        expected = state.cpu()
        copy = snapshot.take(make_state(1, Best(step=0, weights={"w": state + 1}), weights={"w": state}))
        state.add_(1)
        assert copy.weights["w"].is_pinned()
        assert torch.equal(copy.weights["w"], expected)
        state.add_(1)


def test_a_resumed_job_trains_the_average_and_not_the_best_weights_saved_with_it(
    spec: JobSpec,
    tmp_path: Path,
) -> None:
    def through(_: int, folder: Path, fill: Fill) -> None:
        fill(folder)

    trainer = make_trainer(spec, tmp_path, through)
    trainer._train_step()
    trainer.best.offer(1, 0.5, trainer.average)
    trainer._checkpoint()
    trainer.session.wait()
    again = make_trainer(spec, tmp_path, through)
    again._resume()
    kept = copy_weights(trainer.best.weights)
    again._train_step()
    assert same(again.best.weights, kept)
    assert not same(again.average, kept)
