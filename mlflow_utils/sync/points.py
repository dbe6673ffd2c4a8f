"""A trial's `events.jsonl`, read bit by bit, and the memory of what MLflow already has.

The job appends to the spool and knows nothing of MLflow; whoever sends reads on from a byte position that is kept
beside the spool. The position moves only after MLflow has confirmed, so an interrupted sender sends some points twice;
MLflow's SQL store keys a point by (run, metric, time, step, value) and keeps it once, as the time is the event's.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bridge_common import files
from mlflow_utils import names

CHUNK = 1 << 18  # bytes read and confirmed at once
_START = '{"kind"'


class Point(NamedTuple):
    """One value of one metric; `time` in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


def milliseconds(seconds: float) -> int:
    """An event's time as MLflow counts it."""
    return round(seconds * 1000)


def parse(line: str) -> dict[str, Any] | None:
    """One event, or None where the line is none.

    A writer killed in mid-line leaves a stump that the next writer's first event is glued to; that event is recovered.
    """
    for text in (line, line[max(line.rfind(_START), 0) :]):
        try:
            event = json.loads(text)
        except ValueError:
            continue
        return event if isinstance(event, dict) else None
    return None


def read(path: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """Whole events from a byte position on, up to `CHUNK` bytes of them.

    Args:
        path: the spool; it need not exist yet.
        position: where the last reading ended. A file shorter than that was begun anew and is read from its start.

    Returns:
        The events and the position after the last of them, which is unchanged when there is nothing new.
    """
    if not path.exists():
        return [], position
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = position if position <= size else 0
        file.seek(start)
        data = file.read(CHUNK)
        if b"\n" not in data:
            data += file.readline()
    return _events(data), start + data.rfind(b"\n") + 1


def read_all(path: Path, start: int = 0, until: int | None = None) -> list[dict[str, Any]]:
    """All whole events of a spool, or those between two byte positions."""
    if not path.exists():
        return []
    return _events(path.read_bytes()[start:until])


def _events(data: bytes) -> list[dict[str, Any]]:
    """The events in whole lines. All lines are parsed at once, and one by one only where one of them is broken."""
    lines = [line for line in data[: data.rfind(b"\n") + 1].decode(errors="replace").split("\n") if line.strip()]
    try:
        events = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        events = [parse(line) for line in lines]
    return [event for event in events if isinstance(event, dict)]


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
            (point.name, point.step) if names.is_series(point.name) else (point.name, point.step, repr(point.value))
        )
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True


@dataclass
class Sent:
    """What one MLflow store already has of one trial or phase."""

    run_id: str | None = None
    experiment_id: str | None = None
    position: int = 0  # bytes of the spool that are there
    status: str | None = None
    implied: bool = False  # the status is not the trial's own word: its phase ended
    described: str | None = None  # hash of the parameters and tags that were sent
    asked: bool = False  # a run was asked for without an answer: a second one may turn up
    files: dict[str, list[int]] = field(default_factory=dict)  # sent artifacts, with size and time of change
    refused: int = 0  # points and files that MLflow will not take, whatever the number of attempts

    @classmethod
    def load(cls, path: Path, store: str) -> "Sent":
        """What the state file says of a store; nothing where there is no file."""
        entry = files.read_json(path).get(store) if path.exists() else None
        return cls(**entry) if entry else cls()

    def save(self, path: Path, store: str) -> None:
        """Write this store's entry atomically; other stores' entries stay."""
        entries = files.read_json(path) if path.exists() else {}
        entries[store] = asdict(self)
        files.write_json(path, entries)


def store_key(tracking_uri: str) -> str:
    """Short name of a store in state files. A hash, since the URI of a database may hold a password."""
    return hashlib.sha256(tracking_uri.encode()).hexdigest()[:12]
