"""Records finished campaign folders in an MLflow store the way a driver does."""

from pathlib import Path

from bridge_common import files
from mlflow_utils.tracker import Tracker
from tests.support.campaign_folder import TOGGLES


def declare(tracker: Tracker, folder: Path, phase: str = "phase1") -> None:
    """Declare one trial to a tracker."""
    about = files.read_json(folder / "spec.json")
    tracker.trial(
        folder,
        phase=phase,
        name=about["variant"],
        fingerprint=about["fingerprint"],
        params={toggle: about["spec"][toggle] for toggle in TOGGLES},
        tags={"seed": about["seed"]},
    )


def record(uri: str, campaign: Path, status: str = "FINISHED") -> None:
    """Record a whole campaign and wait until all of it has arrived."""
    tracker = Tracker(uri, campaign.name, campaign)
    tracker.start()
    tracker.phase("phase1", {"bridge": "dit"}, {})
    for folder in sorted((campaign / "trials").iterdir()):
        declare(tracker, folder)
    tracker.finish("phase1", status)
    assert tracker.close(60) is None
