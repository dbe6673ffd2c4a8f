"""A trial's final metrics, tags and status, the same for MLflow, data frames and reports."""

import math
from typing import Any

from bridge_common import metric_names, trial_files
from bridge_common.intervals import wilson
from bridge_common.trial_folder import TrialFolder
from mlflow_utils import names


def result_metrics(trial: TrialFolder) -> dict[str, float]:
    """Return the metrics and timings of a trial's result, its duration in seconds and its GPU-hours; empty without one.

    Values that are not finite numbers are left out. GPU-hours are seconds times workers / 3600, for runs on GPUs.
    """
    result = trial.result()
    if result is None:
        return {}
    values = {**result["metrics"], **(result.get("timings") or {})}
    metrics = {name: float(value) for name, value in values.items() if _is_number(value)}
    run = (trial.spec() or {}).get("run", {})
    if _is_number(result.get("seconds")):
        metrics.setdefault(metric_names.SECONDS, float(result["seconds"]))
        if run.get("use_gpu"):
            metrics.setdefault(metric_names.GPU_HOURS, result["seconds"] * run.get("workers", 1) / 3600)
    return metrics


def result_tags(trial: TrialFolder) -> dict[str, str]:
    """Return the node on which a finished trial ran and the path of its checkpoint; empty without a result."""
    result = trial.result() or {}
    tags = {}
    if result.get("checkpoint"):
        tags[names.CHECKPOINT] = str(trial.path.resolve() / result["checkpoint"])
    if result.get("node_id"):
        tags[names.NODE_ID] = str(result["node_id"])
    return tags


def in_words(trial: TrialFolder) -> str:
    """Return a finished trial's accuracy with its interval, gain, information and duration; empty without a result."""
    metrics = result_metrics(trial)
    bridged = metrics.get(metric_names.accuracy("bridged"))
    if bridged is None:
        return ""
    n = metrics.get(metric_names.N)
    low, high = wilson(bridged * n, round(n)) if n else (None, None)
    interval = "" if low is None else f" [{low:.1%}, {high:.1%}] of {n:.0f} items"
    parts = [f"bridged **{bridged:.1%}**{interval}"]
    for name in (metric_names.GAIN, metric_names.INFORMATION):
        if name in metrics:
            parts.append(f"{name} {100 * metrics[name]:+.1f} points")
    if metric_names.SECONDS in metrics:
        parts.append(f"{metrics[metric_names.SECONDS] / 60:.1f} minutes")
    return "; ".join(parts)


def error_tags(trial: TrialFolder) -> dict[str, str]:
    """Return why a trial failed, in one line; empty for other trials."""
    record = trial.error() if trial.failed else None
    return {names.ERROR: str(record["error"])} if record else {}


def stopped_tags(trial: TrialFolder) -> dict[str, str]:
    """Return at which step a sweep's scheduler ended a trial, and how good it was; empty for other trials."""
    record = trial.stopped()
    if record is None:
        return {}
    named = {names.STOPPED_STEP: "step", names.STOPPED_VALIDATION: "validation_accuracy"}
    return {tag: repr(record[key]) for tag, key in named.items() if record.get(key) is not None}


def status_of(trial: TrialFolder, reported: str | None, phase_status: str) -> str:
    """Return the status of a trial as MLflow shows it.

    Args:
        trial: the trial's folder.
        reported: the last status in the trial's event log, or None if it has none.
        phase_status: status of the trial's phase. A trial that reported no final status ended with its phase: FINISHED
            if it has a result, else KILLED.
    """
    if reported in trial_files.FINAL:
        return str(reported)
    if phase_status not in trial_files.FINAL:
        return trial_files.RUNNING
    return trial_files.FINISHED if trial.finished else trial_files.KILLED


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
