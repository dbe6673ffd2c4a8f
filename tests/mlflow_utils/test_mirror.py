"""The copy of a campaign that follows MLflow alone: whether a process still runs the campaign."""

from pathlib import Path

import pytest

from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder
from mlflow_utils import names
from mlflow_utils.mirror import mirrored
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaign_folder import make_campaign
from tests.support.tracked_campaigns import declare
from tests.support.waiting import wait_for


def statuses(uri: str, campaign: str) -> dict[str, str]:
    """Return the status of each phase's run."""
    runs = mlflow_records.runs(uri, campaign)
    return {run.info.run_name: run.info.status for run in runs if run.data.tags["kind"] == "phase"}


def forget_signs_of_life(uri: str, campaign: str) -> None:
    """Leave a store as it is while a driver sends a phase's files, before its first sign of life."""
    client = mlflow_records.client(uri)
    for run in mlflow_records.runs(uri, campaign):
        if names.DRIVER_SEEN in run.data.tags:
            client.delete_tag(run.info.run_id, names.DRIVER_SEEN)


def test_a_campaign_is_run_until_the_last_of_its_phases_has_ended(storage: Path) -> None:
    """Phase 1 ends before phase 1.5, whose trials may still be on their way to the store."""
    campaign, uri = make_campaign(storage), default_tracking_uri(storage)
    folders = sorted((campaign / "trials").iterdir())
    tracker = Tracker(uri, campaign.name, campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    declare(tracker, folders[-1])
    tracker.phase("phase1.5", {}, {})
    declare(tracker, folders[0], "phase1.5")
    tracker.finish("phase1", "FINISHED")
    try:
        wait_for(lambda: len(statuses(uri, campaign.name)) == 2, 60, "both phases are recorded")
        wait_for(lambda: statuses(uri, campaign.name)["phase1"] == "FINISHED", 60, "phase 1 has ended")
        forget_signs_of_life(uri, campaign.name)  # the first one comes after the phase's files
        with mirrored(uri, campaign.name) as copy:
            assert copy.driven, "a phase that has just begun is driven"
            tracker.finish("phase1.5", "FINISHED")
            assert tracker.close(60) is None
            assert copy.refresh() is None
            assert not copy.driven
    finally:
        tracker.close(60)


def test_a_campaign_has_not_ended_before_its_results_have_arrived(storage: Path) -> None:
    """A file that cannot be fetched for a while was taken for one that there is not, and the trial for stopped."""
    campaign, uri = make_campaign(storage), default_tracking_uri(storage)
    trial = TrialFolder(next(path for path in sorted((campaign / "trials").iterdir()) if TrialFolder(path).finished))
    tracker = Tracker(uri, campaign.name, campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    wait_for(lambda: list(storage.rglob("artifacts/plan.json")), 60, "its files are there")
    with mirrored(uri, campaign.name) as copy:
        declare(tracker, trial.path)
        tracker.finish("phase1", "FINISHED")
        assert tracker.close(60) is None
        sent = next(path for path in storage.rglob("artifacts/result.json"))
        sent.rename(sent.with_name("kept"))
        sent.symlink_to("nowhere")
        reason = copy.refresh()
        assert reason is not None
        assert "did not give the files of" in reason
        assert copy.driven, "it is asked again"
        with pytest.raises(UserError, match="did not give the files of"), mirrored(uri, campaign.name):
            pass
        sent.with_name("kept").replace(sent)
        assert copy.refresh() is None
        assert not copy.driven
        assert TrialFolder.of(copy.folder, trial.name).result() == trial.result()
