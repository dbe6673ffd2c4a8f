"""A local Ray whose raylet or head dies: the driver ends in one line, leaves no process, and `resume` goes on."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge_common import files
from tests.support.campaigns import NAME, driver_log, prepare, steps
from tests.support.faults import RECOVERY_S, assert_goes_on, driving, last_line, rays_process
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
STEPS = 400
WITHIN_S = 10


@pytest.mark.parametrize(
    ("process", "name"),
    [
        pytest.param("/raylet/raylet", "raylet", id="SIGKILL raylet"),
        pytest.param("/gcs/gcs_server", "head", id="SIGKILL head"),
    ],
)
def test_a_driver_whose_local_ray_dies_ends_in_one_line(
    process: str, name: str, storage: Path, ray_head: Any, record_property: Any
) -> None:
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.2)
    with driving(storage) as driver:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "it works")
        children = psutil.Process(driver.pid).children(recursive=True)
        began = time.monotonic()
        os.kill(rays_process(driver.pid, process), signal.SIGKILL)
        assert driver.wait(60) == 1
        record_property(RECOVERY_S, time.monotonic() - began)
        assert time.monotonic() - began < WITHIN_S
    line = last_line(storage)
    assert line.startswith(f"Ray's {name} on this machine died (not finished: full-"), driver_log(storage)
    assert f"resume --storage {storage} --name {NAME}" in line
    stop = files.read_json(storage / NAME / "campaign.json")["starts"][-1]["stopped"]
    assert stop["reason"] == f"Ray's {name} on this machine died"
    # Ray's own agents look after the raylet that started them every few seconds, on a busy machine less often.
    assert not psutil.wait_procs(children, timeout=30)[1], "nothing of its Ray is left"
    assert_goes_on(storage, ray_head)
