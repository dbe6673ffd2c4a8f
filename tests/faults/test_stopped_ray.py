"""A driver, or the raylet or head of its local Ray, is stopped (SIGSTOP): a line says so, and both remedies work."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge_common.heartbeat import is_stopped
from tests.support.campaigns import driver_log, prepare, steps
from tests.support.command_line import call_here
from tests.support.faults import (
    assert_as_undisturbed,
    assert_goes_on,
    assert_nothing_reserved,
    driving,
    last_line,
    rays_process,
)
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
STEPS = 60
PROCESSES = [
    pytest.param("/raylet/raylet", "raylet", id="SIGSTOP raylet"),
    pytest.param("/gcs/gcs_server", "head", id="SIGSTOP head"),
]


@pytest.mark.parametrize(("process", "name"), PROCESSES)
def test_a_stopped_process_of_a_local_ray_is_said_and_goes_on(process: str, name: str, storage: Path) -> None:
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.5)
    with driving(storage) as driver:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "it works")
        pid = rays_process(driver.pid, process)
        os.kill(pid, signal.SIGSTOP)
        said = f"Ray's {name} on this machine is stopped: `kill -CONT {pid}` lets it go on"
        wait_for(lambda: said in driver_log(storage), 30, "a line says so")
        os.kill(pid, signal.SIGCONT)
        assert driver.wait(240) == 0, driver_log(storage)
    assert driver_log(storage).count(" is stopped: ") == 1
    assert_as_undisturbed(storage, STEPS)


@pytest.mark.parametrize(("process", "name"), PROCESSES[1:])
def test_a_stopped_process_that_is_killed_ends_the_start(process: str, name: str, storage: Path, ray_head: Any) -> None:
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.5)
    with driving(storage) as driver:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "it works")
        pid = rays_process(driver.pid, process)
        children = psutil.Process(driver.pid).children(recursive=True)
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: f"`kill -KILL {pid}` ends this start" in driver_log(storage), 30, "a line says so")
        os.kill(pid, signal.SIGKILL)
        assert driver.wait(60) == 1
    assert last_line(storage).startswith(f"Ray's {name} on this machine died (not finished: full-")
    assert not psutil.wait_procs(children, timeout=30)[1], "nothing of its Ray is left"
    assert_goes_on(storage, ray_head)


def test_a_stopped_driver_is_named_by_status_and_goes_on(storage: Path, ray_head: Any) -> None:
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.5)
    with driving(storage, address=ray_head.address) as process:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "it works")
        os.kill(process.pid, signal.SIGSTOP)
        wait_for(lambda: is_stopped(process.pid), 60, "its main thread has seen the signal")
        done = len(steps(storage, "full"))
        said = f"which is stopped: `kill -CONT {process.pid}` lets it go on"
        assert said in call_here("status", "--storage", str(storage)).stdout
        refused = call_here("resume", "--storage", str(storage), folder=storage)
        assert refused.returncode == 2
        assert said in refused.stderr
        wait_for(lambda: len(steps(storage, "full")) >= done + 10, 60, "its trial goes on without it")
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(240) == 0, driver_log(storage)
    assert_as_undisturbed(storage, STEPS)
    assert_nothing_reserved(ray_head)
