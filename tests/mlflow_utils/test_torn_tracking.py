"""Files of the tracking that a full disk or a crash has torn: the runs are found again, and a line says so."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaign_folder import make_campaign
from tests.support.mlflow_store import copy_database
from tests.support.tracked_campaigns import record

DAMAGE = {
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "a list": lambda data: b"[1, 2]\n",
    "other values": lambda data: (
        data.replace(b"{", b'{"0": 5, ', 1).replace(b'"run_id"', b'"run"').replace(b'"kind"', b'"sort"')
    ),
}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole_campaign(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Path:
    storage = copy_database(mlflow_database, tmp_path_factory.mktemp("runs"))
    campaign = make_campaign(storage, variants=["full", "B"])
    record(default_tracking_uri(storage), campaign)
    return campaign


@pytest.fixture
def campaign(whole_campaign: Path) -> Iterator[Path]:
    """Return a recorded campaign, whose files are mended after the test."""
    whole = {path: path.read_bytes() for path in whole_campaign.rglob("*.json*")}
    yield whole_campaign
    for path, data in whole.items():
        path.write_bytes(data)


def recorded(campaign: Path) -> list[Any]:
    """Return what MLflow has of a campaign."""
    uri = default_tracking_uri(campaign.parent)
    return sorted(
        (run.info.run_id, run.info.status, run.data.params, sorted(mlflow_records.points(uri, run.info.run_id).items()))
        for run in mlflow_records.runs(uri)
    )


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["trials/full-*/events.sent.json", "tracking.sent.json"])
def test_runs_are_found_again(file: str, damage: str, campaign: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = recorded(campaign)
    (path,) = campaign.glob(file)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with caplog.at_level(logging.WARNING, "mlflow_utils"):
        assert Tracker.replay(default_tracking_uri(campaign.parent), "demo", campaign) is None
    assert recorded(campaign) == before
    lines = {record.getMessage() for record in caplog.records if record.name.startswith("mlflow_utils")}
    assert len(lines) == 1, lines
    assert str(path) in lines.pop()


@pytest.mark.parametrize("damage", ["half", "zeros", "a list", "other values"])
def test_lost_declarations_end_no_run_again_and_double_none(
    damage: str, campaign: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = recorded(campaign)
    path = campaign / "tracking.jsonl"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    uri = default_tracking_uri(campaign.parent)
    assert Tracker.replay(uri, "demo", campaign) is None
    assert [f"{path} is damaged" in caplog.text, caplog.text.count("\n")] == [True, 1]
    assert recorded(campaign) == before, "`report` leaves what is there"
    record(uri, campaign)
    assert recorded(campaign) == before, "`resume` declares again"
