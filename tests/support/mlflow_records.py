"""What MLflow holds of a campaign, asked in the plainest way, for comparison with the spools."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from bridge_common import files

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")


def client(uri: str) -> Any:
    """A client of a store."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs(uri: str, campaign: str = "demo") -> list[Any]:
    """All runs of a campaign that are not in the bin."""
    mlflow = client(uri)
    return list(mlflow.search_runs([mlflow.get_experiment_by_name(campaign).experiment_id]))


def trials(uri: str, campaign: str = "demo") -> dict[str, Any]:
    """The trials' runs by variant; two of one variant are an error."""
    found = [run for run in runs(uri, campaign) if run.data.tags["kind"] == "trial"]
    by_name = {run.data.tags["variant"]: run for run in found}
    assert len(by_name) == len(found), sorted(run.data.tags["variant"] for run in found)
    return by_name


def points(uri: str, run_id: str) -> Counter[tuple[str, int, float]]:
    """How often each point (metric, step, value) stands in a run."""
    mlflow = client(uri)
    names = mlflow.get_run(run_id).data.metrics
    return Counter((m.key, m.step, m.value) for name in names for m in mlflow.get_metric_history(run_id, name))


def spooled(folder: Path) -> Counter[tuple[str, int, float]]:
    """How often each point stands in a trial's spool."""
    rows = [row for row in files.read_jsonl(folder / "events.jsonl") if row["kind"] == "metrics"]
    return Counter((name, row["step"], float(value)) for row in rows for name, value in row["values"].items())


def as_spooled(found: Counter[tuple[str, int, float]]) -> Counter[tuple[str, int, float]]:
    """Without the metrics that are worked out when a trial ends."""
    return Counter({point: count for point, count in found.items() if point[0] not in ("seconds", "gpu_hours")})
