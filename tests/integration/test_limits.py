"""Limits of time on a real Ray: what cannot end in time does not start, and what runs then is stopped and resumed."""

import time
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from ray_bridge.config.presets import tiny, tiny_run
from tests.support.campaigns import DIRECT, events, prepare, steps
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import full
from tune_spaces.records.limits import Limits

pytestmark = pytest.mark.slow


def make(storage: Path) -> Campaign:
    """Return a campaign of one trial, which is estimated to take 20 seconds."""
    base = tiny(steps=0, validation_examples=1, test_examples=1)
    return Campaign(Phase(name="one", goal="g", first=(full(),)), base, tiny_run(), storage=storage, name="c")


def test_nothing_starts_that_cannot_end_in_time(tmp_path: Path, connected_ray: Any) -> None:
    prepare(tmp_path, {"full": 0.7})
    campaign = make(tmp_path)
    policy = campaign.run(DIRECT, limits=Limits(until=time.time() + 10))
    assert not policy.finished
    assert events(tmp_path, "start") == []
    schedule = campaign.records.schedule()
    assert schedule is not None
    assert "takes about 0 minutes and would end after" in schedule["limit"]


def test_what_runs_at_the_time_stops_and_goes_on_later(tmp_path: Path, connected_ray: Any) -> None:
    prepare(tmp_path, {"full": 0.7}, steps=1000, pause=0.2)
    campaign = make(tmp_path)
    until = time.time() + 35
    policy = campaign.run(DIRECT, limits=Limits(until=until))
    assert until <= time.time() < until + 30
    assert not policy.finished
    done = len(steps(tmp_path, "full"))
    assert done
    schedule = campaign.records.schedule()
    assert schedule is not None
    assert "is reached" in schedule["limit"]
    assert files.read_json(campaign.records.campaign_file)["starts"][-1]["limits"]["until"] == until
    prepare(tmp_path, {"full": 0.7}, steps=done + 1)
    assert make(tmp_path).run(DIRECT).finished
    assert len(steps(tmp_path, "full")) <= done + 2
