"""What an outage of MLflow left on disk is sent in memory that does not grow with the number of points."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.event_log import EventLog
from bridge_common.trial_folder import TrialFolder
from mlflow_utils import dataframes, declarations
from mlflow_utils.sync.points import SeenPoints, points
from mlflow_utils.tracker import Tracker, backlog
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaign_folder import START, begin_trial, make_campaign, status_event, step_event

VALUES = len(step_event(1, START)["values"])
MIB = 2**20


def spool(storage: Path, trials: int, steps: int) -> Path:
    """Write a campaign whose trials have so many steps of eleven values each, of which nothing was sent."""
    campaign = make_campaign(storage, variants=[])
    for seed in range(trials):
        rows = [step_event(step, START + step, seed) for step in range(1, steps + 1)]
        folder = begin_trial(campaign, "full", seed=seed)
        files.write_jsonl(folder / "events.jsonl", [status_event("RUNNING"), *rows, status_event("FINISHED")])
    return campaign


def peak(action: Callable[[], Any]) -> int:
    """Return the most bytes that Python's objects took beyond those before an action."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def seen_all(trial: TrialFolder) -> SeenPoints:
    """Return the points of a trial as a process that continues it knows them."""
    seen = SeenPoints()
    for point in points(trial.stream_events()):
        assert seen.add(point)
    return seen


@pytest.mark.parametrize("read", ["seen", "writer", "backlog", "frame"])
def test_ten_times_the_points_of_a_trial_take_hardly_more_memory(tmp_path: Path, read: str) -> None:
    peaks = []
    for number, steps in enumerate((400, 4_000)):
        campaign = spool(tmp_path / str(number), 1, steps)
        (trial,) = TrialFolder.begun_in(campaign)
        uri, declared = default_tracking_uri(tmp_path), declarations.load(campaign)
        actions: dict[str, Callable[[], Any]] = {
            "seen": lambda trial=trial: seen_all(trial),
            "writer": lambda trial=trial: EventLog(trial.events_file),
            "backlog": lambda told=declared, at=campaign, uri=uri: backlog(told, at, uri),
            "frame": lambda campaign=campaign: dataframes.runs(campaign),
        }
        peaks.append(peak(actions[read]))
    assert peaks[1] < peaks[0] + MIB, f"{read}: {peaks} bytes"


@pytest.mark.slow
def test_a_replay_holds_the_points_of_one_trial_at_a_time(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trials that were sent are forgotten while the next ones are: one pass sends all of them."""
    campaign, held = spool(storage, 4, 30), []
    made = SeenPoints.__init__

    def counted(self: SeenPoints) -> None:
        made(self)
        gc.collect()
        held.append(sum(isinstance(each, SeenPoints) for each in gc.get_objects()))

    monkeypatch.setattr(SeenPoints, "__init__", counted)
    uri = default_tracking_uri(storage)
    assert Tracker.replay(uri, "demo", campaign) is None
    assert held == [1] * 4
    for run in mlflow_records.runs(uri):
        if run.data.tags["kind"] == "trial":
            sent = mlflow_records.points(uri, run.info.run_id)
            assert sent == mlflow_records.logged_points(Path(run.data.tags["folder"]))
