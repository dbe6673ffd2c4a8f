"""Limits of a start: what they may be, and what may still start within them."""

import time
from datetime import datetime
from pathlib import Path

import pytest

from bridge_common import files
from bridge_common.errors import UserError
from ray_bridge import RunSpec, paper_run, tiny_run
from tune_spaces.records.campaign_folder import CampaignFolder
from tune_spaces.records.limits import LimitKeeper, Limits, parse_until

NOW = datetime(2026, 11, 26, 17, 30).astimezone()


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("18:30", datetime(2026, 11, 26, 18, 30)),
        ("7:05", datetime(2026, 11, 27, 7, 5)),
        ("17:30", datetime(2026, 11, 27, 17, 30)),
        ("2026-11-28T06:00", datetime(2026, 11, 28, 6)),
        ("2026-11-28 06:00", datetime(2026, 11, 28, 6)),
        ("+90m", datetime(2026, 11, 26, 19, 0)),
        ("+1.5h", datetime(2026, 11, 26, 19, 0)),
        ("+2d", datetime(2026, 11, 28, 17, 30)),
    ],
)
def test_times(text: str, then: datetime) -> None:
    assert parse_until(text, NOW) == then.astimezone().timestamp()


@pytest.mark.parametrize(
    "text",
    ["", "soon", "25:00", "12:60", "8h", "+8", "2026-11-28", "2026-13-01T00:00", "+99999999d", f"+{'9' * 400}h"],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UserError, match=r"give 18:30, 2026-11-27T06:00, or \+90m"):
        parse_until(text, NOW)


def test_limits_that_mean_nothing_are_refused() -> None:
    Limits(until=time.time() + 60, gpu_hours=1).check(paper_run())
    for limits, run, reason in [
        (Limits(until=time.time() - 1), paper_run(), "that time has passed"),
        (Limits(gpu_hours=3), tiny_run(), "needs a run on GPUs"),
        (Limits(gpu_hours=0), paper_run(), "a number above 0"),
    ]:
        with pytest.raises(UserError, match=reason):
            limits.check(run)


def keeper(folder: Path, run: RunSpec | None = None, **limits: float) -> LimitKeeper:
    """Return a keeper of a campaign whose trial `long` takes an hour, `short` ten minutes, and `done` took an hour."""
    campaign = CampaignFolder(folder)
    minutes = {"long": 60, "short": 10, "done": 60}
    campaign.write_plan({"trials": [{"name": name, "minutes": value} for name, value in minutes.items()]})
    done = campaign.trial("done")
    done.path.mkdir(parents=True)
    for when, status in ((0, "RUNNING"), (3600, "FINISHED")):
        files.append_jsonl(done.events_file, {"kind": "status", "time": when, "status": status})
    return LimitKeeper(Limits(**limits), campaign, run or paper_run())


def test_nothing_starts_that_cannot_end_in_time(tmp_path: Path) -> None:
    own = keeper(tmp_path, until=10_000.0)
    assert own.fits("long", {}, now=6400)
    assert not own.fits("long", {}, now=6401)
    assert "long takes about 60 minutes and would end after" in str(own.reason)
    assert own.fits("short", {}, now=9400)
    assert not own.reached({}, now=9999)
    assert own.reached({}, now=10_000)


def test_gpu_hours_count_what_ran_what_runs_and_what_would_start(tmp_path: Path) -> None:
    """Four GPUs: `done` has used 4 GPU-hours, `long` takes 4, `short` two thirds of one."""
    own = keeper(tmp_path, gpu_hours=8.5)
    assert own.fits("long", {}, now=10_000)
    assert not own.fits("short", {"long": 10_000.0}, now=10_000)
    assert "would bring the campaign to about 8.7 of 8.5 GPU-hours" in str(own.reason)
    assert not own.reached({"long": 10_000.0}, now=10_000)
    assert keeper(tmp_path / "b", gpu_hours=4.0).reached({}, now=10_000)
    assert keeper(tmp_path / "c").fits("long", {}, now=1e12)
    assert not keeper(tmp_path / "d").reached({}, now=1e12)
