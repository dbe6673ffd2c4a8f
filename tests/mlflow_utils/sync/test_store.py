"""Requests to a real SQLite store: what they create, find and remove."""

from pathlib import Path

from mlflow_utils.sync.points import Point
from mlflow_utils.sync.store import Store
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records


def test_what_matters_is_the_first_metric_of_a_run(storage: Path) -> None:
    """MLflow's page that compares runs opens on it."""
    store = Store(default_tracking_uri(storage), "demo", storage / "artifacts")
    run = store.create("full", {"kind": "trial"}, 1000)
    named = ("validation/n", "validation/accuracy/bridged", "fast/source/fused")
    store.log_points(run, [Point(name, 1.0, 3000, 0) for name in named])
    metrics = mlflow_records.client(default_tracking_uri(storage)).get_run(run).data.metrics
    assert next(iter(metrics)) == "validation/accuracy/bridged"


def test_only_a_run_without_metrics_is_removed(storage: Path) -> None:
    """A lost answer leaves a second, empty run; one that another process has begun to fill stays."""
    store = Store(default_tracking_uri(storage), "demo", storage / "artifacts")
    empty, used = (store.create("full", {"kind": "trial"}, started) for started in (1000, 2000))
    store.log_points(used, [Point("loss/total", 0.5, 3000, 1)])
    assert store.find({"kind": "trial"}) == [empty, used]
    for run in (empty, used):
        store.remove_empty(run)
    assert store.find({"kind": "trial"}) == [used]
    assert (store.is_active(empty), store.is_active(used)) == (False, True)
    assert store.run_ids() == {empty, used}, "deleted runs are known"
    assert list(store.points(used)) == [Point("loss/total", 0.5, 3000, 1)]
