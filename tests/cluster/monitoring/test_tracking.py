"""A campaign that was started from Python names no MLflow store: commands use the one of its storage."""

import shutil
from pathlib import Path

import pytest

from cluster.monitoring.tracking import tracking_uri_of
from mlflow_utils.tracking_uri import default_tracking_uri
from ray_bridge import tiny, tiny_run
from tests.support.campaign_folder import metrics, samples
from tests.support.command_line import call_here
from tune_spaces import Campaign, phase1


def cluster(*arguments: str) -> str:
    done = call_here(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_store_is_the_one_named_or_else_the_storages(tmp_path: Path) -> None:
    named = {"tracking_uri": "http://10.0.0.1:5000"}
    assert tracking_uri_of(Campaign(phase1, tiny(), tiny_run(), request=named)) == "http://10.0.0.1:5000"
    assert tracking_uri_of(Campaign(phase1, tiny(), tiny_run(), storage=tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("recorded", [False, True])
def test_a_copied_storage_records_into_its_own_store(tmp_path: Path, recorded: bool) -> None:
    """Earlier versions recorded the default store in the campaign, as if it had been given."""
    own = {"tracking_uri": default_tracking_uri(tmp_path / "runs")} if recorded else {}
    campaign = Campaign(phase1, tiny(), tiny_run(), storage=tmp_path / "runs", request=own)
    campaign.freeze()
    campaign._record_start([], {})
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    assert tracking_uri_of(Campaign.load(tmp_path / "runs", campaign.name)) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tracking_uri_of(Campaign.load(tmp_path / "copy", campaign.name)) == f"sqlite:///{tmp_path}/copy/mlflow.db"


def test_commands_work_on_a_campaign_from_python(tmp_path: Path) -> None:
    campaign = Campaign(phase1, tiny(), tiny_run(), storage=tmp_path / "runs")
    rows = samples(200, rates={"bridged": 0.95})
    trial = campaign.records.begin(campaign.plan.trials[campaign.plan.first[0]], campaign.run_spec)
    trial.append_status("FINISHED")
    trial.write_result({"metrics": metrics(rows), "fingerprint": trial.fingerprint(), "seconds": 1.0})
    assert campaign.run("nothing:runs").finished
    storage = str(campaign.storage)
    cluster("report", "--storage", storage, "--out", str(tmp_path / "paper"))
    assert (campaign.storage / "mlflow.db").is_file()
    assert "phase1: finished, 1 of 1 trials done" in cluster("status", "--storage", storage)
    summary = cluster("resume", "--storage", storage)
    assert f"tracking: sqlite:///{storage}/mlflow.db" in " ".join(summary.split())
