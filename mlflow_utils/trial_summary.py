"""What a trial's folder says about the trial, for the sender, the frames and the reports alike."""

import math
from typing import Any

from bridge_common import metric_names, trial_files
from bridge_common.trial_folder import TrialFolder
from mlflow_utils import names


def stated_metrics(trial: TrialFolder) -> dict[str, float]:
    """Metrics of a trial's result, with its time in seconds and its GPU-hours; empty while there is no result."""
    result = trial.result()
    if result is None:
        return {}
    found = {name: float(value) for name, value in (result.get("metrics") or {}).items() if _is_number(value)}
    run = (trial.spec() or {}).get("run", {})
    if _is_number(result.get("seconds")):
        found.setdefault(metric_names.SECONDS, float(result["seconds"]))
        if run.get("use_gpu"):
            found.setdefault(metric_names.GPU_HOURS, result["seconds"] * run.get("workers", 1) / 3600)
    return found


def facts(trial: TrialFolder) -> dict[str, str]:
    """Where a finished trial ran and where its checkpoint is; empty while there is no result."""
    result = trial.result() or {}
    found = {}
    if result.get("checkpoint"):
        found[names.CHECKPOINT] = str(trial.path.resolve() / result["checkpoint"])
    if result.get("node_id"):
        found[names.NODE_ID] = str(result["node_id"])
    return found


def status_of(trial: TrialFolder, said: str | None, phase_status: str) -> str:
    """Status of a trial as MLflow shows it.

    Args:
        trial: its folder.
        said: the last status in its spool, if any.
        phase_status: of its phase. A trial that did not end by itself ended with its phase.
    """
    if said in trial_files.FINAL:
        return str(said)
    if phase_status not in trial_files.FINAL:
        return trial_files.RUNNING
    return trial_files.FINISHED if trial.finished else trial_files.KILLED


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
