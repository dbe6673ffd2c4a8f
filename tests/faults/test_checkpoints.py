"""Checkpoints of the embedded pair that do not fit on the disk, or that a crash has cut off."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ray_bridge.training.ray_snapshot import listed_checkpoints
from tests.support.campaigns import NAME, driver_log
from tests.support.disks import fill, small_disk
from tests.support.embedded_campaigns import (
    CHECKPOINT_EVERY,
    WHOLE,
    Numbers,
    assert_as_undisturbed,
    numbers,
    running,
    starts,
    trained,
    wait_until_it_trains,
    went_on_from,
)
from tests.support.faults import RECOVERY_S, assert_nothing_reserved, trial_of
from tests.support.mlflow_store import copy_database
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
ROOM = 64 << 10  # for the record of some steps, not for a checkpoint


def checkpoints(storage: Path) -> list[Path]:
    """Return the complete checkpoints of the campaign's trial, the newest last."""
    return sorted((storage / NAME / "trials").glob("*/train/checkpoint_0*"))


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint_"))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*"))


def test_a_checkpoint_that_does_not_fit_is_the_last_line_and_a_resume_goes_on(
    tmp_path: Path, mlflow_database: Path, ray_head: Any, undisturbed: Numbers, record_property: Any
) -> None:
    log, uri = tmp_path / "log", f"sqlite:///{copy_database(mlflow_database, tmp_path) / 'mlflow.db'}"
    others = ("--tracking-uri", uri, "--reports", str(tmp_path / "reports"))
    with small_disk(tmp_path / "disk", mebibytes=64) as disk:
        storage = disk / "runs"
        storage.mkdir()
        with running(storage, *others, address=ray_head.address, log=log) as process:
            wait_for(lambda: checkpoints(storage) and trained(storage)[-1] > CHECKPOINT_EVERY, 240, "it trains")
            zeros, filled = fill(disk, leave=ROOM), time.monotonic()
            whole = checkpoints(storage)
            assert process.wait(300) == 1, log.read_text()
            record_property(RECOVERY_S, time.monotonic() - filled)
        assert "OSError: [Errno 28] No space left on device" in " ".join(log.read_text().split())
        assert log.read_text().splitlines()[-1] == (
            f"error: disk full: {storage}: free some space, then `resume` goes on from what is there"
        )
        assert_nothing_reserved(ray_head)
        assert size(whole[-1]) > ROOM
        assert checkpoints(storage) == whole, "the next one is not there"
        assert not list(trial_of(storage).path.rglob("unfinished*")), "not even a part of it"
        reached = trained(storage)[-1]
        assert reached >= step_of(whole[-1]) + CHECKPOINT_EVERY, "steps had room, the checkpoint not"
        zeros.unlink()
        with running(storage, *others, address=ray_head.address, log=log) as process:
            assert process.wait(300) == 0, log.read_text()
        assert went_on_from(storage) == step_of(whole[-1])
        found = numbers(storage, uri=uri, log=log)
        assert found.ending.startswith("gate:passed:")
        # Its last lines name another MLflow store, since MLflow's database is not on the small disk.
        assert_as_undisturbed(replace(found, ending=undisturbed.ending), undisturbed)


def test_a_killed_driver_and_a_torn_checkpoint_change_no_number(
    storage: Path, ray_head: Any, undisturbed: Numbers
) -> None:
    with running(storage, address=ray_head.address) as process:
        wait_until_it_trains(storage, WHOLE + 2 * CHECKPOINT_EVERY + 1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    assert_nothing_reserved(ray_head)
    newest = max(listed_checkpoints(checkpoints(storage)[-1].parent))  # a later one may be whole, but not yet listed
    torn = [checkpoint for checkpoint in checkpoints(storage) if checkpoint.name >= newest]
    before = checkpoints(storage)[-len(torn) - 1]
    for path in (path for checkpoint in torn for path in checkpoint.rglob("*")):
        os.truncate(path, path.stat().st_size // 2)
    with running(storage, address=ray_head.address) as process:
        assert process.wait(300) == 0, driver_log(storage)
    assert_nothing_reserved(ray_head)
    assert len(starts(storage)) == 2
    assert went_on_from(storage) == step_of(before) >= WHOLE
    assert trial_of(storage).finished
    assert_as_undisturbed(numbers(storage), undisturbed)
