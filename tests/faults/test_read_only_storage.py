"""A storage that becomes read-only while a trial runs: the command ends with one line, and a resume loses nothing."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.monitoring.full_disk import full_disk
from tests.support.campaigns import campaign, driver, end, prepare, steps
from tests.support.cheap_jobs import checksum
from tests.support.faults import RECOVERY_S
from tests.support.mlflow_store import copy_database
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
STEPS = 30


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a disk of its own, which the kernel can close as after an error of the device."""
    place, image = tmp_path / "disk", tmp_path / "image"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop,errors=remount-ro", image, place]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_storage_that_turns_read_only_is_the_last_line_and_a_resume_goes_on(
    disk: Path, tmp_path: Path, mlflow_database: Path, ray_head: Any, record_property: Any
) -> None:
    storage, log = disk / "runs", tmp_path / "log"
    copy_database(mlflow_database, tmp_path)
    others = ("--skip-preflight", "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    others += ("--reports", str(tmp_path / "reports"))
    prepare(storage, {"full": 0.75}, steps=STEPS, pause=0.3)
    process = driver(storage, *others, address=ray_head.address, log=log)
    try:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "full has worked")
        subprocess.run(["mount", "-o", "remount,abort", disk], check=True)
        began = time.monotonic()
        assert full_disk([tmp_path, storage / "none"]).startswith(f"read-only: {storage / 'none'}: ")
        assert process.wait(120) == 1, log.read_text()
        record_property(RECOVERY_S, time.monotonic() - began)
    finally:
        end(process)
    last = log.read_text().splitlines()[-1]
    assert last == f"error: read-only: {storage}: make it writable, then `resume` goes on from what is there"
    subprocess.run(["umount", "--lazy", disk], check=True)
    subprocess.run(["mount", "-o", "loop", tmp_path / "image", disk], check=True)
    process = driver(storage, *others, address=ray_head.address, log=log)
    try:
        assert process.wait(240) == 0, log.read_text()
    finally:
        end(process)
    # The journal of steps is not forced to disk, so the kernel may have dropped its rows; checkpoint and result are.
    assert campaign(storage).results()["checksum"].tolist() == [checksum(STEPS)]
