"""Steps that are read when the next one has been launched, as on a GPU, lead to what steps that are read at once do."""

import time
from pathlib import Path

import pytest
import torch

from bridge_common.trial_folder import TrialFolder
from ray_bridge.config.presets import tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.training.checkpoint import TrainingState
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import recorded, small_spec
from tests.support.model_pairs import PairFolders, make_pair
from tests.support.workers import on_two_workers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> PairFolders:
    return make_pair(tmp_path_factory.mktemp("pair"))


def trainer_of(spec: JobSpec, folder: Path, *, later: bool, every: int = 5) -> Trainer:
    torch.set_num_threads(1)
    run = tiny_run(workers=1, checkpoint_every=every)
    trainer = Trainer(spec, run, folder, LocalSession(folder), folder / "cache")
    assert not trainer._reads_later, "a CPU computes a step before its call returns"
    trainer._reads_later = later
    return trainer


def stopped_worker(worker: Worker, spec: JobSpec, folder: Path) -> None:
    """Run one worker of a job that is asked to stop, and write the step at which it ended."""
    trainer = Trainer(spec, tiny_run(workers=2, checkpoint_every=5), folder, LocalSession(folder, worker), None)
    trainer._reads_later = True
    assert trainer.run() is None
    (folder / f"ended-{worker.rank}").write_text(str(trainer.step))


def newest(folder: Path) -> TrainingState | None:
    return TrainingState.load_newest(LocalSession(folder).checkpoints())


def test_numbers_are_the_same(folders: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(folders)
    for later in (False, True):
        assert trainer_of(spec, tmp_path / str(later), later=later).run() is not None
    assert recorded(tmp_path / "True") == recorded(tmp_path / "False")


def test_a_step_that_diverges_is_named_and_leaves_no_checkpoint(folders: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(folders, learning_rate=1e30, warmup_steps=0, clip_norm=1e30, ema_decay=0.0)
    causes = set()
    for later in (False, True):
        with pytest.raises(FloatingPointError) as error:
            trainer_of(spec, tmp_path / str(later), later=later, every=1).run()
        causes.add(str(error.value))
    assert len(causes) == 1, "the same step, whenever it is read"
    step = int(causes.pop().removeprefix("training diverged at step ").split(":")[0])
    state = newest(tmp_path / "True")
    assert step > 1
    assert state is not None
    assert state.step == step - 1


def test_a_stop_ends_after_a_checkpoint_and_can_be_resumed(folders: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(folders)
    trainer_of(spec, tmp_path / "whole", later=False).run()
    folder = tmp_path / "parts"
    TrialFolder(folder).request_stop()
    assert trainer_of(spec, folder, later=True).run() is None
    state = newest(folder)
    assert state is not None
    assert state.step == 2, "the first step saw it, and was read when the second had been launched"
    TrialFolder(folder).begin({})
    assert trainer_of(spec, folder, later=True).run() is not None
    assert recorded(folder) == recorded(tmp_path / "whole")


def test_workers_end_at_the_same_step(folders: PairFolders, tmp_path: Path) -> None:
    TrialFolder(tmp_path).request_stop()
    on_two_workers(stopped_worker, small_spec(folders), tmp_path)
    assert [(tmp_path / f"ended-{rank}").read_text() for rank in range(2)] == ["2", "2"]


def test_a_step_takes_the_time_since_the_one_before_if_that_was_unread(folders: PairFolders, tmp_path: Path) -> None:
    trainer = trainer_of(small_spec(folders), tmp_path, later=True)
    began = time.monotonic()
    for _ in range(3):
        trainer._train_step()
    trainer._read_steps()
    spent = time.monotonic() - began
    assert 0.3 * spent < trainer.seconds <= spent, "no part of a step is counted twice or left out"
