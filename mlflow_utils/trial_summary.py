"""What a trial's folder says about the trial, for the sender, the frames and the reports alike."""

import math
from pathlib import Path
from typing import Any

from bridge_common import files, metric_names, trial_files
from mlflow_utils import names


def stated_metrics(folder: Path) -> dict[str, float]:
    """Metrics of a trial's result, with its time in seconds and its GPU-hours; empty while there is no result."""
    path = folder / trial_files.RESULT
    if not path.exists():
        return {}
    result = files.read_json(path)
    found = {name: float(value) for name, value in (result.get("metrics") or {}).items() if _is_number(value)}
    spec = folder / trial_files.SPEC
    run = files.read_json(spec).get("run", {}) if spec.exists() else {}
    if _is_number(result.get("seconds")):
        found.setdefault(metric_names.SECONDS, float(result["seconds"]))
        if run.get("use_gpu"):
            found.setdefault(metric_names.GPU_HOURS, result["seconds"] * run.get("workers", 1) / 3600)
    return found


def facts(folder: Path) -> dict[str, str]:
    """Where a finished trial ran and where its checkpoint is; empty while there is no result."""
    path = folder / trial_files.RESULT
    result = files.read_json(path) if path.exists() else {}
    found = {}
    if result.get("checkpoint"):
        found[names.CHECKPOINT] = str(folder.resolve() / result["checkpoint"])
    if result.get("node_id"):
        found[names.NODE_ID] = str(result["node_id"])
    return found


def status_of(folder: Path, said: str | None, phase_status: str) -> str:
    """Status of a trial as MLflow shows it.

    Args:
        folder: the trial's.
        said: the last status in its spool, if any.
        phase_status: of its phase. A trial that did not end by itself ended with its phase.
    """
    if said in trial_files.FINAL:
        return str(said)
    if phase_status not in trial_files.FINAL:
        return trial_files.RUNNING
    return trial_files.FINISHED if (folder / trial_files.RESULT).exists() else trial_files.KILLED


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
