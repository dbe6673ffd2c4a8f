"""Two campaigns on one machine, each with a Ray of its own, recover from dead processes of a trial all the same."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaigns import TRAINED, driver, driver_log, end, journal, prepare
from tests.support.faults import RECOVERY_S, rays_process
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
STEPS = 16


def loops(storage: Path) -> list[int]:
    """Return the step at which each start of the training loop began."""
    return [row["step"] for row in journal(storage) if row["event"] == "loop"]


def test_dead_trial_actors_and_controllers_are_recovered_beside_another_ray(
    tmp_path: Path, record_property: Any
) -> None:
    """Each job takes all CPUs of its Ray: if a dead attempt kept its place, the next one would wait for ever."""
    storages = (tmp_path / "a", tmp_path / "b")
    for storage in storages:
        prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.5)
    options = ("--skip-preflight", f"--set=workers={os.cpu_count()}", "--set=cpus_per_worker=1")
    drivers = [driver(storage, *options, job=TRAINED) for storage in storages]
    try:
        killed: list[tuple[int, float]] = []
        victims = {0: "ImplicitFunc", 1: "TrainController"}

        def all_killed() -> bool:
            for number, victim in list(victims.items()):
                if len(journal(storages[number])) > 3 and (pid := rays_process(drivers[number].pid, victim)):
                    os.kill(pid, signal.SIGKILL)
                    killed.append((number, time.time()))
                    del victims[number]
            return not victims

        wait_for(all_killed, 120, "both train")
        for process, storage in zip(drivers, storages, strict=True):
            assert process.wait(150) == 0, driver_log(storage)
    finally:
        for process in drivers:
            end(process)
    for number, when in killed:
        again = [row["time"] for row in journal(storages[number]) if row["event"] == "loop"][1]
        record_property(RECOVERY_S, again - when)
    for storage in storages:
        assert len(loops(storage)) == 2, "it was started again, once"
        assert loops(storage)[1] > 0, "and went on from its checkpoint"
