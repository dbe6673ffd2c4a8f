"""The trial's append-only record: what happened, in order, on disk before anyone else hears of it.

A resumed job repeats the steps after its checkpoint; they are the same numbers, so steps that are already there are
not written again, and a reader sees every step once.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_common.files import append_jsonl, read_jsonl, write_bytes

Series = tuple[int, str]
CHUNK = 1 << 18  # bytes read and confirmed at once
_START = '{"kind"'


class EventLog:
    """Writes events.jsonl of one trial. Only rank 0 has one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written: set[Series] = set()
        if path.is_file():
            _drop_half_line(path)
            for event in read_jsonl(path):
                if event["kind"] == "metrics":
                    self._written.add(_series(event["step"], event["values"]))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record named numbers of a step, unless this step's are there already."""
        series = _series(step, values)
        if series not in self._written:
            self._written.add(series)
            self._append({"kind": "metrics", "step": step, "values": dict(values)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Record facts about the run."""
        self._append({"kind": "tags", "values": dict(values)})

    def artifact(self, path: str) -> None:
        """Name a file, relative to the trial's folder, that belongs to the record."""
        self._append({"kind": "artifact", "path": path})

    def _append(self, event: dict[str, Any]) -> None:
        append_jsonl(self.path, {"kind": event["kind"], "time": round(time.time(), 3), **event})


def _series(step: int, values: Mapping[str, float]) -> Series:
    return step, json.dumps(sorted(values))


def _drop_half_line(path: Path) -> None:
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        write_bytes(path, whole)


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
