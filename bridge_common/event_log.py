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
