"""Checkpoints under Ray Train on two workers: Ray knows complete ones alone, and an error in writing ends the run."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from tests.support.waiting import wait_for

STEPS = 5
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("connected_ray")]


def _known(run: Path) -> list[str]:
    """Return the names of the checkpoints that Ray would resume from."""
    state = run / "checkpoint_manager_snapshot.json"
    while True:
        text = state.read_text() if state.is_file() else '{"checkpoint_results": []}'
        try:
            return [row["checkpoint_dir_name"] for row in json.loads(text)["checkpoint_results"]]
        except json.JSONDecodeError:
            time.sleep(0.01)  # Ray is rewriting it in place


def _loop(config: dict[str, Any]) -> None:
    """Train five steps with a checkpoint of two files after each.

    At step 3 of the first attempt, `fault` strikes between the two files: "killed" by SIGKILL, or a "full" disk. In
    the attempt after a full disk, a checkpoint is completed only once both workers have gone on training.
    """
    import ray.train
    import torch

    from ray_bridge.distributed import Worker
    from ray_bridge.training.ray_session import RaySession

    folder, context = Path(config["folder"]), ray.train.get_context()
    run, journal = folder / "train", folder / "journal.jsonl"
    rank = context.get_world_rank()
    session = RaySession(Worker(rank=rank, world=2), run)
    latest = next(iter(session.checkpoints()), None)
    start = 0
    if latest is not None:
        assert sorted(path.name for path in latest.iterdir()) == ["a", "b"]
        start = int((latest / "a").read_text())
    files.append_jsonl(journal, {"rank": rank, "event": "start", "step": start, "known": _known(run)})

    def write(place: Path, step: int) -> None:
        (place / "a").write_text(str(step))
        if step == 3 and config["fault"] and not (folder / "once").exists():
            wait_for(lambda: "checkpoint_00000002" in _known(run), 60, "Ray knows of the checkpoint before")
            time.sleep(1.5)  # Ray polls meanwhile: it would have noticed a report of this checkpoint
            (folder / "once").touch()
            if config["fault"] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(28, "No space left on device")
        if config["fault"] == "full":
            # The training threads of both workers are past the report while this is being written.
            wait_for(lambda: _passed(journal, step) == {0, 1}, 60, f"both workers train while {step} is written")
        (place / "b").write_text(str(step))

    for step in range(start + 1, STEPS + 1):
        torch.distributed.barrier()
        session.wait()
        session.report(step, {}, (lambda place, step=step: write(place, step)) if rank == 0 else None)
        files.append_jsonl(journal, {"rank": rank, "event": "passed", "step": step})
    session.wait()
    if rank == 0:
        files.write_json(folder / "result.json", sorted(path.parent.name for path in run.glob("checkpoint_*/b")))
    torch.distributed.barrier()


def _passed(journal: Path, step: int) -> set[int]:
    return {row["rank"] for row in files.read_log(journal) if row["event"] == "passed" and row["step"] == step}


def _fit(folder: Path, fault: str, *, max_failures: int = 1) -> Any:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    return TorchTrainer(
        _loop,
        train_loop_config={"folder": str(folder), "fault": fault},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=str(folder),
            failure_config=ray.train.FailureConfig(max_failures=max_failures, controller_failure_limit=1),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    ).fit()


def _kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())


LAST_TWO = ["checkpoint_00000004", "checkpoint_00000005"]


def test_a_worker_killed_while_it_writes_resumes_from_the_complete_checkpoint_before(tmp_path: Path) -> None:
    outcome = _fit(tmp_path, "killed")
    starts = [row for row in files.read_log(tmp_path / "journal.jsonl") if row["event"] == "start"]
    assert sorted((row["step"], row["rank"]) for row in starts) == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert starts[-1]["known"] == ["checkpoint_00000001", "checkpoint_00000002"]
    assert Path(outcome.checkpoint.path).name == LAST_TWO[-1]
    assert _kept(tmp_path) == LAST_TWO, "the incomplete folder of the killed worker is removed"


def test_an_error_in_the_writing_ends_the_run_and_the_next_one_trains_while_it_writes(tmp_path: Path) -> None:
    """The last checkpoint is complete before the result is written."""
    import ray.train

    with pytest.raises(ray.train.TrainingFailedError, match="No space left on device"):
        _fit(tmp_path, "full", max_failures=0)
    assert _known(tmp_path / "train") == ["checkpoint_00000001", "checkpoint_00000002"]
    assert not (tmp_path / "result.json").exists()
    outcome = _fit(tmp_path, "full")  # the same command again, with room on the disk
    assert Path(outcome.checkpoint.path).name == LAST_TWO[-1]
    assert outcome.metrics["step"] == STEPS
    assert files.read_json(tmp_path / "result.json")[-1] == LAST_TWO[-1], "complete when the result was written"
    assert _known(tmp_path / "train") == LAST_TWO
    assert _kept(tmp_path) == LAST_TWO, "two are kept, and no incomplete folder"
    starts = [row["step"] for row in files.read_log(tmp_path / "journal.jsonl") if row["event"] == "start"]
    assert starts == [0, 0, 2, 2]
