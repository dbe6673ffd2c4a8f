"""The view of a campaign's runs is in the experiment: toggles, what differs, seed, accuracy with interval, gain."""

import json
from pathlib import Path

from mlflow_utils.experiment_view import VIEW
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaign_folder import begin_trial, make_campaign


def test_the_experiment_has_a_view_of_toggles_and_accuracies_sorted_by_accuracy(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full", "B"]), default_tracking_uri(storage)
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    for folder, kl, tokens in zip(sorted((campaign / "trials").iterdir()), ("off", "on"), (8, 64), strict=True):
        own = {"toggle.kl": kl, "toggle.decode": "on", "soft_tokens": tokens, "task": "synthetic"}
        tracker.trial(folder, phase="phase1", name=folder.name, fingerprint=folder.name, params=own, tags={"seed": 0})
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    tags = mlflow_records.client(uri).get_experiment_by_name("demo").tags
    view = json.loads(tags[VIEW])
    assert view["selectedColumns"] == [
        *("params.`toggle.kl`", "params.`toggle.decode`", "params.`soft_tokens`", "tags.`seed`"),
        *("metrics.`accuracy/bridged`", "metrics.`accuracy_low/bridged`", "metrics.`accuracy_high/bridged`"),
        "metrics.`gain`",
    ]
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`accuracy/bridged`", False)
    (parallel,) = [chart for chart in view["compareRunCharts"] if chart["type"] == "PARALLEL"]
    assert parallel["selectedParams"] == ["toggle.kl", "toggle.decode", "soft_tokens"]
    assert parallel["selectedMetrics"] == ["accuracy/bridged"]
    assert view["compareRunSections"][0]["columns"] == 1, "wide enough for the names of its axes"
    heading = "metrics.`accuracy_high/bridged`"
    assert view["columnWidths"][heading] > 8 * len("accuracy_high/bridged"), "whole headings"
    assert tags["mlflow.experiment.primaryMetric.name"] == "accuracy/bridged"


def test_a_campaign_without_settings_that_differ_has_a_view_as_well(storage: Path) -> None:
    campaign, uri = storage / "demo", default_tracking_uri(storage)
    begin_trial(campaign, "full")
    assert Tracker.replay(uri, "demo", campaign) is None
    tags = mlflow_records.client(uri).get_experiment_by_name("demo").tags
    assert "tags.`seed`" in json.loads(tags[VIEW])["selectedColumns"]
