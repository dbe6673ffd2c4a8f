"""A driver or a trial that is killed, stopped or started twice: no trial runs twice, none is lost, the branch stays."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from tests.support.campaigns import NAME, campaign, driver, driver_log, end, events, journal, prepare, steps
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
ACCURACY = {"full": 0.67, "A": 0.6, "B": 0.61, "C": 0.62}
STEPS = 8


@contextmanager
def driving(storage: Path, ray_head: Any, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Run a driver that joins the tests' Ray, and kill it if it still runs afterwards."""
    process = driver(storage, *arguments, address=ray_head.address)
    try:
        yield process
    finally:
        end(process)


def statuses(storage: Path, variant: str) -> list[str]:
    (folder,) = (storage / NAME / "trials").glob(f"{variant}-*")
    return [row["status"] for row in files.read_log(folder / "events.jsonl") if row["kind"] == "status"]


def test_killed_trials_and_drivers_end_as_if_undisturbed(storage: Path, ray_head: Any) -> None:
    """SIGKILL the process of `full`, then drivers in `full`, between variants and in B, at moments drawn at random."""
    draw = random.Random(time.time_ns())
    prepare(storage, ACCURACY, steps=STEPS, pause=0.3)
    with driving(storage, ray_head):
        wait_for(lambda: len(steps(storage, "full")) >= 2, 90, "full has worked")
        os.kill(journal(storage)[-1]["pid"], signal.SIGKILL)
        wait_for(lambda: events(storage, "start") == ["full"] * 2, 60, "the same driver starts it again")
        before, more = len(steps(storage, "full")), draw.randint(1, STEPS - 4)
        wait_for(lambda: len(steps(storage, "full")) >= before + more, 60, "full goes on")
    in_b = draw.randint(1, STEPS - 1)
    full_has_ended = lambda: list((storage / NAME / "trials").glob("full-*/result.json"))  # noqa: E731
    for moment in (full_has_ended, lambda: len(steps(storage, "B")) >= in_b):
        with driving(storage, ray_head):
            wait_for(moment, 90, driver_log(storage))
        assert files.read_json(storage / NAME / "gate.json")["branch"] in (None, "attribute")
    with driving(storage, ray_head) as process:
        assert process.wait(180) == 0, driver_log(storage)
    assert events(storage, "end") == ["full", "B", "C"]
    for variant, kills in (("full", 2), ("B", 1), ("C", 0)):
        assert sorted(set(steps(storage, variant))) == list(range(STEPS))
        assert len(steps(storage, variant)) <= STEPS + kills, "at most the step that was cut short is done again"
    frame = campaign(storage).results()
    assert sorted(frame["variant"]) == ["B", "C", "full"]
    assert set(frame["status"]) == {"finished"}
    assert files.read_json(storage / NAME / "gate.json")["branch"] == "attribute"


def test_stop_a_second_driver_and_resume(storage: Path, ray_head: Any) -> None:
    from cluster.cli.campaigns import stop_campaign

    prepare(storage, ACCURACY, steps=1000, pause=0.2)
    with driving(storage, ray_head) as process:
        wait_for(lambda: steps(storage, "full"), 90, "full starts")
        with driving(storage, ray_head) as second:
            assert second.wait(60) == 2
        assert "is being run by process" in driver_log(storage)
        assert stop_campaign(storage, NAME, 60) == 0
        assert process.wait(30) == 1, "an unfinished campaign is no success"
    assert "not finished: full" in driver_log(storage)
    assert statuses(storage, "full") == ["RUNNING", "KILLED"]
    before = len(steps(storage, "full"))
    prepare(storage, ACCURACY, steps=before + 2)
    with driving(storage, ray_head) as process:
        assert process.wait(180) == 0, driver_log(storage)
    assert before + 2 <= len(steps(storage, "full")) <= before + 3
    assert events(storage, "end") == ["full", "B", "C"]


def test_an_error_is_exit_code_1(storage: Path, ray_head: Any) -> None:
    prepare(storage, ACCURACY, fail=["full"])
    with driving(storage, ray_head) as process:
        assert process.wait(120) == 1
    assert "RuntimeError: full cannot be run" in driver_log(storage)
