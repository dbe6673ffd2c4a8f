"""What does not depend on the bridge is decoded once and shared by evaluations, trials and phases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.files import read_jsonl, write_jsonl
from ray_bridge.fingerprint import digest
from ray_bridge.workers import Worker

Row = dict[str, Any]


class NodeCache:
    """A folder of finished row lists, keyed by what they were made from.

    Files appear whole under their final name, so concurrent trials may share a folder: the worst that happens is that
    two of them compute the same rows.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def rows(self, kind: str, identity: Any, worker: Worker, compute: Callable[[], list[Row]]) -> list[Row]:
        """The rows made from `identity`: read where they are there, else computed by all workers together.

        Args:
            kind: readable part of the file's name.
            identity: everything the rows depend on, in a form with a stable digest.
            worker: rank 0 looks and writes; all workers take the same way.
            compute: makes the rows; called on every worker or on none.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{kind}-{digest(identity, 32)}.jsonl"
        found = worker.gather(read_jsonl(path) if worker.first and path.is_file() else None)[0]
        if found is not None:
            return found  # type: ignore[return-value]
        rows = compute()
        if worker.first:
            write_jsonl(path, rows)
        return rows
