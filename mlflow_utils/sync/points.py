"""Metric points: the metrics of a trial's event log as MLflow stores them, each sent once.

MLflow's SQL store identifies a point by (run, metric, time, step, value) and keeps it once. A point has the time of its
event, so a point that is sent twice after an interruption stays single. A resumed job, however, repeats steps under new
times; `SeenPoints` knows those.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bridge_common import metric_names
from bridge_common.step_set import StepSet
from mlflow_utils import names


class Point(NamedTuple):
    """One value of one metric; `time` in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


def milliseconds(seconds: float) -> int:
    """Convert an event's time from seconds to milliseconds, the unit of MLflow."""
    return round(seconds * 1000)


def points(events: Iterable[dict[str, Any]]) -> Iterator[Point]:
    """Yield the numbers of the `metrics` events, under names that MLflow accepts; `Store` adds their prefixes."""
    for event in events:
        if event.get("kind") == "metrics":
            time, step = milliseconds(event.get("time", 0)), int(event.get("step") or 0)
            for name, value in event.get("values", {}).items():
                if isinstance(value, int | float):
                    yield Point(names.metric_name(name), float(value), time, step)


class SeenPoints:
    """Remember the points of a run, to tell new ones from those that a resumed job reports again.

    A job that resumes from a checkpoint repeats the steps since then and reports them under new times. Of a training
    curve, only the first value of each step is new. Of any other metric, each different value of a step is new, since
    it may come from another evaluation.
    """

    def __init__(self) -> None:
        self._steps: dict[str, StepSet] = {}  # of training curves, which have nearly all points
        self._others: set[tuple[str, int, str]] = set()

    def add(self, point: Point) -> bool:
        """Remember a point and return whether it is new."""
        if metric_names.is_series(point.name):
            return self._steps.setdefault(point.name, StepSet()).add(point.step)
        identity = (point.name, point.step, repr(point.value))
        if identity in self._others:
            return False
        self._others.add(identity)
        return True
