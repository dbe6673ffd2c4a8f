"""A campaign's folder, which is the truth: what was asked, planned, decided and found can all be read from it.

A trial is finished when its `result.json` is there, because that is written last; nothing else says so.
"""

import time
from pathlib import Path
from typing import Any

from bridge_common import files, metric_names, trial_files
from ray_bridge import RunSpec
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.gate.evidence import BRIDGED, Outcome

CAMPAIGN, PLAN, GATE = "campaign.json", "plan.json", "gate.json"
STOP, LOCK, DRIVER = "stop", ".lock", "driver.json"
TUNE = "tune"
ERROR = "error.json"


def trial_folder(campaign: Path, name: str) -> Path:
    """Where a trial's files are."""
    return Path(campaign) / trial_files.TRIALS / name


def append_status(folder: Path, status: str) -> None:
    """Append a status to a trial's spool."""
    folder.mkdir(parents=True, exist_ok=True)
    files.append_jsonl(folder / trial_files.EVENTS, {"kind": "status", "time": time.time(), "status": status})


def begin(campaign: Path, trial: PlannedTrial, run: RunSpec) -> Path:
    """Make a trial's folder with its `spec.json`, so that a reader knows what it is before anything has run."""
    folder = trial_folder(campaign, trial.name)
    files.write_json(
        folder / trial_files.SPEC,
        {
            "variant": trial.variant,
            "phase": trial.phase,
            "fingerprint": trial.fingerprint,
            "seed": trial.seed,
            "purpose": trial.purpose,
            "spec": trial.spec.model_dump(),
            "run": run.model_dump(),
        },
    )
    return folder


def result(folder: Path) -> dict[str, Any] | None:
    """A trial's result, or None where it has not finished."""
    path = Path(folder) / trial_files.RESULT
    return files.read_json(path) if path.is_file() else None


def outcome(folder: Path) -> Outcome | None:
    """How a finished trial ended, or None."""
    found = result(folder)
    return None if found is None else outcome_of(found["metrics"], folder, found.get("node_id"))


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
