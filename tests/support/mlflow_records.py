"""What MLflow has of a campaign, read with its own client, for comparison with the trials' event logs."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from bridge_common import files
from mlflow_utils.names import recorded_metric

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")


def client(uri: str) -> Any:
    """Return a client of a store."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs(uri: str, campaign: str = "demo") -> list[Any]:
    """Return all runs of a campaign that are not deleted."""
    mlflow = client(uri)
    return list(mlflow.search_runs([mlflow.get_experiment_by_name(campaign).experiment_id]))


def trials(uri: str, campaign: str = "demo") -> dict[str, Any]:
    """Return the runs of the trials by variant; there must be one per variant."""
    of_trials = [run for run in runs(uri, campaign) if run.data.tags["kind"] == "trial"]
    by_name = {run.data.tags["variant"]: run for run in of_trials}
    assert len(by_name) == len(of_trials), sorted(run.data.tags["variant"] for run in of_trials)
    return by_name


def points(uri: str, run_id: str) -> Counter[tuple[str, int, float]]:
    """Count each point (metric under its recorded name, step, value) of a run."""
    mlflow = client(uri)
    shown = mlflow.get_run(run_id).data.metrics
    history = [metric for name in shown for metric in mlflow.get_metric_history(run_id, name)]
    return Counter((recorded_metric(metric.key), metric.step, metric.value) for metric in history)


def logged_points(folder: Path) -> Counter[tuple[str, int, float]]:
    """Count each point (metric, step, value) of a trial's event log."""
    rows = [row for row in files.read_log(folder / "events.jsonl") if row["kind"] == "metrics"]
    return Counter((name, row["step"], float(value)) for row in rows for name, value in row["values"].items())


def without_totals(points: Counter[tuple[str, int, float]]) -> Counter[tuple[str, int, float]]:
    """Leave out the metrics that are computed when a trial ends, which its event log lacks."""
    return Counter({point: count for point, count in points.items() if point[0] not in ("seconds", "gpu_hours")})
