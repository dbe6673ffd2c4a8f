"""The event log of a trial, `events.jsonl`: the job appends what happens, and others read the file while it grows.

An event is one JSON object per line with `kind`, `time` (seconds since 1970) and what belongs to its kind:

    metrics    step, values (numbers by name)
    status     status
    tags       values (texts by name)
    artifact   path, relative to the trial's folder

Rows of another form are skipped by every reader, as is a row that a full disk cut off.

A resumed job repeats the steps after its checkpoint with the same numbers. The writer skips steps that are already in
the log, so that readers see each step once.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bridge_common.files import append_jsonl, log_rows
from bridge_common.step_set import StepSet
from bridge_common.user_files import refuse_special

CHUNK = 1 << 18  # bytes that `read` returns at once
_PARTS: dict[str, dict[str, type]] = {
    "metrics": {"step": int, "values": dict},
    "status": {"status": str},
    "tags": {"values": dict},
    "artifact": {"path": str},
}


class EventLog:
    """Writer of a trial's event log. Of a job's processes, only rank 0 has one."""

    def __init__(self, path: Path) -> None:
        """Open the log and create its folder if needed.

        Args:
            path: the file; an existing one is continued.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written: dict[str, StepSet] = {}  # steps by the names of their metrics
        for event in stream(path):
            if event["kind"] == "metrics":
                self._is_new(event["step"], event["values"])

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append the metrics of a step, unless the log already has metrics of these names for this step."""
        if self._is_new(step, values):
            self._append({"kind": "metrics", "step": step, "values": dict(values)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Append facts about the run, such as its node."""
        self._append({"kind": "tags", "values": dict(values)})

    def artifact(self, path: str) -> None:
        """Append the path of a file to record, relative to the trial's folder."""
        self._append({"kind": "artifact", "path": path})

    def _is_new(self, step: int, values: Mapping[str, float]) -> bool:
        return self._written.setdefault(json.dumps(sorted(values)), StepSet()).add(step)

    def _append(self, event: dict[str, Any]) -> None:
        append_jsonl(self.path, {"kind": event["kind"], "time": round(time.time(), 3), **event})


def read(path: Path, position: int, until: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Read whole events from a byte position on, up to `CHUNK` bytes of them.

    Args:
        path: the event log, which need not exist yet.
        position: end of the previous read. A file that is shorter was replaced, and is read from its start.
        until: byte position after the last event that is wanted; the end of the file by default.

    Returns:
        The events, and the position after the last of them; it is unchanged if there is nothing new.
    """
    if not path.exists():
        return [], position
    refuse_special(path)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = position if position <= size else 0
        file.seek(start)
        data = file.read(CHUNK)
        if b"\n" not in data:
            data += file.readline()
    if until is not None:
        data = data[: max(0, until - start)]
    return list(filter(_is_event, log_rows(data))), start + data.rfind(b"\n") + 1


def _is_event(row: Mapping[str, Any]) -> bool:
    parts = _PARTS.get(str(row.get("kind")))
    if parts is None or not all(isinstance(row.get(name), kind) for name, kind in parts.items()):
        return False
    return row["kind"] != "metrics" or all(isinstance(value, int | float) for value in row["values"].values())


def stream(path: Path, start: int = 0, until: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the whole events between two byte positions, of which a part at a time is in memory.

    A log may hold millions of metric values: as objects they take twenty times the room that they take on disk.
    """
    position = start
    while True:
        events, end = read(path, position, until)
        if end == position:
            return
        yield from events
        position = end
