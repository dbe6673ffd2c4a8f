"""A campaign's folder, which is the truth: what was asked, planned, decided and found can all be read from it.

A trial is finished when its `result.json` is there, because that is written last; nothing else says so.
"""

from pathlib import Path
from typing import Any

from bridge_common import metric_names
from bridge_common.trial_folder import TrialFolder
from ray_bridge import RunSpec
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.gate.evidence import BRIDGED, Outcome

CAMPAIGN, PLAN, GATE = "campaign.json", "plan.json", "gate.json"
STOP, LOCK, DRIVER = "stop", ".lock", "driver.json"
TUNE = "tune"


def begin(campaign: Path, trial: PlannedTrial, run: RunSpec) -> TrialFolder:
    """Make a planned trial's folder with its `spec.json`."""
    folder = TrialFolder.of(campaign, trial.name)
    folder.begin(
        {
            "variant": trial.variant,
            "phase": trial.phase,
            "fingerprint": trial.fingerprint,
            "seed": trial.seed,
            "purpose": trial.purpose,
            "spec": trial.spec.model_dump(),
            "run": run.model_dump(),
        }
    )
    return folder


def outcome(trial: TrialFolder) -> Outcome | None:
    """Return how a trial ended, or None if it has not finished."""
    result = trial.result()
    return None if result is None else outcome_of(result["metrics"], trial.path, result.get("node_id"))


def outcome_of(metrics: dict[str, Any], folder: Path | str, node_id: str | None) -> Outcome:
    """An outcome from the metrics of a job."""
    n, correct = metrics.get(metric_names.N), metrics.get(f"correct/{BRIDGED}")
    return Outcome(
        accuracy=float(metrics[metric_names.accuracy(BRIDGED)]),
        correct=None if correct is None else int(correct),
        n=None if n is None else int(n),
        folder=str(folder),
        node_id=node_id,
    )
