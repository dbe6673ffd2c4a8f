"""Addresses of a campaign's pages are known without a server, and span its phases."""

import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from bridge_common.errors import UserError
from mlflow_utils.pages import campaign_url, phase_url, run_url
from mlflow_utils.server import PORT
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaign_folder import make_campaign, make_trial
from tests.support.tracked_campaigns import declare, record


def test_the_address_is_known_without_a_server(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
    assert campaign_url(campaign, uri) is None
    assert run_url(campaign, uri, "phase1") is None
    record(uri, campaign)
    with pytest.raises(UserError, match="1 of 1 trials"):
        phase_url(campaign, uri, "phase1")
    make_trial(campaign, "B")
    with pytest.raises(UserError, match="1 of 2 trials"):
        phase_url(campaign, uri, "phase1")
    record(uri, campaign)
    assert phase_url(campaign, uri, "phase1").startswith(f"http://127.0.0.1:{PORT}/#/compare-runs?runs=%5B%22")
    with pytest.raises(UserError, match="has no phase phase9, but phase1"):
        phase_url(campaign, uri, "phase9")
    table = "/#/experiments/1/runs?viewStateShareKey=campaign&workflowType=machine_learning"
    assert campaign_url(campaign, uri) == f"http://127.0.0.1:{PORT}{table}"
    assert campaign_url(campaign, "http://host:1234") is None, "another store"
    assert campaign_url(campaign, uri, "http://host:1234/", charts=True) == (
        f"http://host:1234{table}&compareRunsMode=CHART"
    )
    assert campaign_url(campaign, uri, "http://user:SECRET@host:1234") == f"http://host:1234{table}"


def test_a_comparison_spans_the_phases_of_a_campaign(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
    later = make_trial(campaign, "B", phase="phase1.5")
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    for phase in ("phase1", "phase1.5"):
        tracker.phase(phase, {}, {})
    (first,) = (campaign / "trials").glob("full-*")
    declare(tracker, first)
    declare(tracker, later, "phase1.5")
    for phase in ("phase1", "phase1.5"):
        tracker.finish(phase, "FINISHED")
    assert tracker.close(60) is None
    runs = json.loads(unquote(phase_url(campaign, uri).split("runs=")[1].split("&")[0]))
    assert sorted(runs) == sorted(run.info.run_id for run in mlflow_records.trials(uri).values())
    with pytest.raises(UserError, match=r"phase1\.5 of demo has 1 of 1 trials"):
        phase_url(campaign, uri, "phase1.5")
