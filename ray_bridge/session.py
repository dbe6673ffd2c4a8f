"""What the training loop needs from whoever runs it, so that the loop itself knows nothing of Ray."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ray_bridge.workers import Worker


class Session(Protocol):
    """One worker's link to its job."""

    worker: Worker

    def latest(self) -> Path | None:
        """Folder of the newest checkpoint, None at a fresh start."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Hand over metrics, and on rank 0 the folder of a new checkpoint. Every worker calls it at the same step."""


class LocalSession:
    """A single process that keeps its newest checkpoint in a folder."""

    def __init__(self, folder: Path, worker: Worker | None = None) -> None:
        self.worker = worker or Worker()
        self.folder = folder / "local"

    def latest(self) -> Path | None:
        whole = sorted(self.folder.glob("checkpoint-*"))
        return whole[-1] if whole else None

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        if checkpoint is None:
            return
        old = sorted(self.folder.glob("checkpoint-*"))
        number = int(old[-1].name.rpartition("-")[2]) + 1 if old else 0
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(checkpoint, unfinished)
        unfinished.rename(self.folder / f"checkpoint-{number:06d}")
        for path in old:
            shutil.rmtree(path)
