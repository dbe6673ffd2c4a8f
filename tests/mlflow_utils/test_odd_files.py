"""Files of a campaign that are none, or lie elsewhere: they are not sent, what is beside them is, and nothing hangs."""

import os
import time
from pathlib import Path

import pytest

from bridge_common import files
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaign_folder import make_campaign
from tests.support.mlflow_store import copy_database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.fixture
def campaign(tmp_path: Path, mlflow_database: Path) -> Path:
    storage = tmp_path / "runs"
    storage.mkdir()
    return make_campaign(copy_database(mlflow_database, storage), variants=["full"])


def sent(campaign: Path) -> set[str]:
    """Send what MLflow lacks; return the names in the folder of artifacts, and those that it links to."""
    assert Tracker.replay(default_tracking_uri(campaign.parent), campaign.name, campaign) is None
    places = (campaign.parent / "mlartifacts").rglob("*")
    return {place.name for place in places if place.is_file()}


def test_a_pipe_a_loop_and_links_to_other_places_are_left_out(campaign: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    (trial,) = (campaign / "trials").iterdir()
    (trial / "folder").mkdir()
    (trial / "folder" / "inside").write_text("x")
    (trial / "folder" / "stolen").symlink_to(tmp_path / "secret")
    (trial / "folder" / "others").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(trial / "pipe")
    (trial / "loop").symlink_to(trial / "loop")
    (trial / "taken").symlink_to(tmp_path / "secret")
    for name in ("pipe", "loop", "taken", "../../../../secret", "folder"):
        files.append_jsonl(trial / "events.jsonl", {"kind": "artifact", "path": name, "time": time.time()})
    names = sent(campaign)
    assert "inside" in names
    assert not {"stolen", "secret", "taken", "pipe", "loop"} & names
    runs = mlflow_records.trials(default_tracking_uri(campaign.parent))
    assert runs["full"].info.status == "FINISHED"


def test_a_lock_that_cannot_be_taken_is_said_at_once(campaign: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (campaign / ".tracking.lock").mkdir()
    began = time.monotonic()
    unsent = Tracker.replay(default_tracking_uri(campaign.parent), campaign.name, campaign)
    assert f"cannot write {campaign / '.tracking.lock'}: Is a directory" in str(unsent)
    assert time.monotonic() - began < 20
    assert "Traceback" not in capfd.readouterr().err
