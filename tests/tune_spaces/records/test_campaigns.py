"""Listing the campaigns of a storage and choosing one."""

from pathlib import Path

import pytest

from bridge_common.errors import UserError
from tests.support.planned_trials import campaign
from tune_spaces.records.campaigns import campaigns, choose


def start(storage: Path, name: str, *times: float) -> None:
    campaign(storage, name).write_campaign({"starts": [{"time": time} for time in times]})


def test_the_campaign_started_last_is_at_the_end_and_is_the_default(tmp_path: Path) -> None:
    start(tmp_path, "a", 1.0, 9.0)
    start(tmp_path, "b", 5.0)
    start(tmp_path, "c", 2.0, 3.0, 4.0)
    assert campaigns(tmp_path) == ["c", "b", "a"]
    assert choose(tmp_path, None) == "a"
    assert choose(tmp_path, "c") == "c"


def test_an_unknown_campaign_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no campaign in .*: start one with phase1"):
        choose(tmp_path, None)
    with pytest.raises(UserError, match=r"no campaign 'x' in .*: there are none"):
        choose(tmp_path, "x")
    start(tmp_path, "a", 1.0)
    start(tmp_path, "b", 2.0)
    with pytest.raises(UserError, match=r"no campaign 'x' in .*: there are a, b"):
        choose(tmp_path, "x")
