"""Processes that are stopped (SIGSTOP) or killed: a job gets on without a human, and its numbers are the same."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaigns import TRAINED, driver_log, journal, prepare
from tests.support.cheap_jobs import checksum
from tests.support.command_line import call_here
from tests.support.faults import (
    RECOVERY_S,
    assert_as_undisturbed,
    assert_nothing_reserved,
    driving,
    process_of,
    rays_process,
    trial_of,
)
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
STEPS, TIMEOUT = 10, 15
JOB = ("--set=workers=2", "--set=cpus_per_worker=1", f"--set=progress_timeout={TIMEOUT}")


def loops(storage: Path) -> list[int]:
    """Return the step at which each start of the training loop began."""
    return [row["step"] for row in journal(storage) if row["event"] == "loop"]


VICTIMS: dict[str, tuple[Callable[[Path], int], str]] = {
    "worker": (lambda storage: process_of(storage, "rank-1"), "(rank 1)"),
    "trial actor": (lambda storage: process_of(storage, "trial"), ""),
    "Train controller": (lambda storage: rays_process(os.getpid(), "TrainController"), ""),
}


@pytest.mark.parametrize(
    "victim", [pytest.param(name, marks=[] if name == "worker" else [pytest.mark.long]) for name in VICTIMS]
)
def test_a_stopped_process_is_reported_killed_and_replaced(
    victim: str, storage: Path, ray_head: Any, record_property: Any
) -> None:
    find, who = VICTIMS[victim]
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.3)
    with driving(storage, *JOB, job=TRAINED, address=ray_head.address) as process:
        wait_for(lambda: len([row for row in journal(storage) if row["event"] == "step"]) >= 3, 240, "it trains")
        os.kill(wait_for(lambda: find(storage), 10, victim), signal.SIGSTOP)
        stopped = time.time()
        wait_for(lambda: "no step for" in call_here("status", "--storage", str(storage)).stdout, 60, "status says so")
        assert process.wait(300) == 0, driver_log(storage)
    again = [row["time"] for row in journal(storage) if row["event"] == "loop"][1]
    record_property(RECOVERY_S, again - stopped)
    lines = [line for line in driver_log(storage).splitlines() if f"no step for {TIMEOUT} s on" in line]
    assert who in lines[0]
    assert len(lines) == 1 or victim == "Train controller", "that one is found out in two steps"
    assert len(loops(storage)) == 2, "it was started again, once"
    assert loops(storage)[1] > 0, "and went on from its checkpoint"
    assert (trial_of(storage).result() or {})["metrics"]["checksum"] == checksum(STEPS)
    assert_as_undisturbed(storage, STEPS)
    assert_nothing_reserved(ray_head)
