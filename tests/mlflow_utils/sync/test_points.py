"""Metric points of events, and which of them a resumed job repeats."""

from mlflow_utils.sync import points
from mlflow_utils.sync.points import Point, SeenPoints


def test_points_are_the_numbers_of_metrics_events_with_their_time() -> None:
    row = {"kind": "metrics", "time": 12.3456, "step": 7, "values": {"a": 1, "b": float("nan"), "c": None, "d": "x"}}
    read = list(points.points([row, {"kind": "status", "status": "RUNNING"}]))
    assert [point.name for point in read] == ["a", "b"]
    assert read[0] == Point("a", 1.0, 12346, 7)


def test_a_repeated_training_step_is_not_new_but_another_evaluation_is() -> None:
    seen = SeenPoints()
    assert seen.add(Point("loss/total", 0.5, 1, 10))
    assert not seen.add(Point("loss/total", 0.5000001, 2, 10))
    assert seen.add(Point("loss/total", 0.5, 2, 11))
    assert seen.add(Point("accuracy/bridged", 0.5, 1, 10))
    assert not seen.add(Point("accuracy/bridged", 0.5, 2, 10))
    assert seen.add(Point("accuracy/bridged", 0.6, 2, 10))


def test_an_event_that_lacks_time_step_or_values_still_counts() -> None:
    assert list(points.points([{"kind": "metrics", "values": {"a": 2}}])) == [Point("a", 2.0, 0, 0)]
    assert list(points.points([{"kind": "metrics", "time": 1.0, "step": None, "values": {"a": 2}}])) == [
        Point("a", 2.0, 1000, 0)
    ]
    assert list(points.points([{"kind": "metrics"}])) == []
