"""A trial's `events.jsonl`, read bit by bit, and the memory of what MLflow already has.

The job appends to the spool and knows nothing of MLflow; whoever sends reads on from a byte position that is kept
beside the spool. The position moves only after MLflow has confirmed, so an interrupted sender sends some points twice;
MLflow's SQL store keys a point by (run, metric, time, step, value) and keeps it once, as the time is the event's.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from bridge_common import metric_names
from mlflow_utils import names


class Point(NamedTuple):
    """One value of one metric; `time` in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


def milliseconds(seconds: float) -> int:
    """An event's time as MLflow counts it."""
    return round(seconds * 1000)


def points(events: Iterable[dict[str, Any]]) -> Iterable[Point]:
    """The numbers in events of kind `metrics`, under names that MLflow accepts."""
    for event in events:
        if event.get("kind") == "metrics":
            time, step = milliseconds(event.get("time", 0)), int(event.get("step") or 0)
            for name, value in event.get("values", {}).items():
                if isinstance(value, int | float):
                    yield Point(names.metric_name(name), float(value), time, step)


class News:
    """Tells what is new from what a resumed job did again.

    A job that goes on from a checkpoint repeats the steps since then and reports them under a new time. Of a training
    curve the first value of a step counts. Of any other metric every different value of a step counts, since it may be
    another evaluation; the same one is not repeated.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[str, int] | tuple[str, int, str]] = set()

    def __call__(self, point: Point) -> bool:
        """Whether the point is new; it is known from then on."""
        identity = (
            (point.name, point.step)
            if metric_names.is_series(point.name)
            else (point.name, point.step, repr(point.value))
        )
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True
