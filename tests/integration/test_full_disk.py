"""A storage whose disk is full: the command ends with one line that says so, and a resume loses nothing."""

import os
from pathlib import Path
from typing import Any

import pytest

from cluster.monitoring.full_disk import full_disk
from tests.support.campaigns import campaign, driver, end, events, prepare, steps
from tests.support.disks import fill
from tests.support.mlflow_store import copy_database
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
STEPS = 20


def test_a_full_disk_is_the_last_line_and_a_resume_goes_on(
    disk: Path, tmp_path: Path, mlflow_database: Path, ray_head: Any
) -> None:
    storage, log = disk / "runs", tmp_path / "log"
    copy_database(mlflow_database, tmp_path)
    others = (
        "--skip-preflight",
        "--tracking-uri",
        f"sqlite:///{tmp_path / 'mlflow.db'}",
        "--reports",
        str(tmp_path / "reports"),
    )
    prepare(storage, {"full": 0.75}, steps=STEPS, pause=0.3)
    assert full_disk([storage, tmp_path]) is None
    process = driver(storage, *others, address=ray_head.address, log=log)
    try:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 90, "full has worked")
        zeros = fill(disk)
        assert full_disk([tmp_path, storage / "none"]).startswith(f"disk full: {storage / 'none'}: ")
        assert process.wait(120) == 1, log.read_text()
    finally:
        end(process)
    last = log.read_text().splitlines()[-1]
    assert last == f"error: disk full: {storage}: free some space, then `resume` goes on from what is there"
    os.unlink(zeros)
    prepare(storage, {"full": 0.75}, steps=STEPS)
    process = driver(storage, *others, address=ray_head.address, log=log)
    try:
        assert process.wait(120) == 0, log.read_text()
    finally:
        end(process)
    assert sorted(set(steps(storage, "full"))) == list(range(STEPS))
    assert len(events(storage, "end")) == 1
    assert campaign(storage).results()["accuracy/bridged"].tolist() == [0.75]
