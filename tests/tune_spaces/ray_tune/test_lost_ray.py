"""A stopped process of a local Ray is noticed: real processes with the names of Ray's."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_for
from tune_spaces.ray_tune.interrupts import Interrupts
from tune_spaces.ray_tune.lost_ray import ends_with_ray


@pytest.fixture
def raylet(tmp_path: Path) -> "Iterator[subprocess.Popen[bytes]]":
    shutil.copy(shutil.which("sleep") or "", tmp_path / "raylet")
    process = subprocess.Popen([tmp_path / "raylet", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_stopped_raylet_is_said_once_each_time(
    raylet: "subprocess.Popen[bytes]", capfd: pytest.CaptureFixture[str]
) -> None:
    said = ""

    def lines() -> int:
        nonlocal said
        said += capfd.readouterr().out
        return said.count(f"Ray's raylet on this machine is stopped: `kill -CONT {raylet.pid}` lets it go on")

    with ends_with_ray(Interrupts(ends_process=True), lambda _: None, stopped_s=0.2):
        for times in (1, 2):
            os.kill(raylet.pid, signal.SIGSTOP)
            wait_for(lambda times=times: lines() == times, 10, "it is said")
            time.sleep(0.7)
            assert lines() == times, "once"
            os.kill(raylet.pid, signal.SIGCONT)
            time.sleep(0.7)
    assert lines() == 2
