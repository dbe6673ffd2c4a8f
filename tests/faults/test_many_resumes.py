"""A campaign that is started over and over."""

import os
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge_common import files
from cluster.monitoring.tracking import recorded
from tests.support.campaigns import DIRECT, NAME, campaign, events, prepare, steps
from tests.support.card_campaigns import make_ended
from tests.support.faults import assert_as_undisturbed
from tests.support.waiting import wait_for
from tune_spaces.campaign import Campaign

TIMES = 50


def test_fifty_resumes_of_a_finished_campaign_change_nothing(tmp_path: Path) -> None:
    made = make_ended(tmp_path, "spring", items=20, seeds=(0,), sizes=(8,))
    made.run(job="nothing:runs")

    def contents() -> dict[str, bytes]:
        changing = {"campaign.json", "driver.json", "plan.json", ".lock"}
        paths = [path for path in made.folder.rglob("*") if path.is_file() and path.name not in changing]
        return {str(path): path.read_bytes() for path in paths}

    before, plan = contents(), made.records.plan()
    for _ in range(TIMES):
        Campaign.load(tmp_path, "spring").run(job="nothing:runs")
    assert contents() == before
    assert made.records.plan() == plan
    starts = files.read_json(made.records.campaign_file)["starts"]
    assert len(starts) == TIMES + 2, "each start is recorded once"


@pytest.mark.slow
@pytest.mark.long
def test_fifty_stops_and_resumes_of_a_running_campaign_lose_and_double_nothing(
    storage: Path, connected_ray: Any
) -> None:
    """Each start does at least one step and is asked to stop; the last one may end."""
    prepare(storage, {"full": 0.72}, steps=10_000, pause=0.2)
    uri, process, held = f"sqlite:///{storage / 'mlflow.db'}", psutil.Process(), []

    def start(made: Campaign) -> None:
        with recorded(made, uri, lambda: 60.0):
            made.run(job=DIRECT)

    def stop(done: int) -> None:
        wait_for(lambda: len(steps(storage, "full")) > done, 120, "it gets on")
        made.records.request_stop()

    for number in range(TIMES):
        made = campaign(storage) if number == 0 else Campaign.load(storage, NAME)
        stopper = threading.Thread(target=stop, args=(len(steps(storage, "full")),))
        stopper.start()
        start(made)
        stopper.join()
        held.append((process.num_fds(), process.num_threads()))
    done = len(steps(storage, "full"))
    assert steps(storage, "full") == list(range(done)), "no step is lost or done twice"
    prepare(storage, {"full": 0.72}, steps=done + 1)
    start(Campaign.load(storage, NAME))
    assert_as_undisturbed(storage, done + 1)
    assert len(events(storage, "start")) == TIMES + 1
    starts = files.read_json(storage / NAME / "campaign.json")["starts"]
    assert len(starts) == TIMES + 1, "each start is recorded once"
    for what, first, last in zip(("handles", "threads"), held[TIMES // 5], held[-1], strict=True):
        assert last <= first + 8, f"{what} of a process that starts a campaign {TIMES} times: {held}"
    assert os.listdir(storage / ".claims") in ([], [".lock"]), "nothing is claimed"
