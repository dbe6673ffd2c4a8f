"""What the training loop needs from whoever runs it, so that the loop itself knows nothing of Ray."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ray_bridge.distributed import Worker
from ray_bridge.training.async_checkpoint import Fill, Writer, write_folder


class Session(Protocol):
    """One worker's link to its job."""

    worker: Worker

    def latest(self) -> Path | None:
        """Folder of the newest whole checkpoint, None at a fresh start. It is read, never changed."""

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        """Hand over metrics, and on rank 0 what writes a new checkpoint's files into a folder.

        Every worker calls it at the same step. A thread writes while the caller goes on; `latest` names the checkpoint
        once it is whole. Rank 0 calls `wait` before the next report.
        """

    def wait(self) -> None:
        """Until the last reported checkpoint is whole; raises what kept it from being so."""


class LocalSession:
    """A single process that keeps its newest checkpoint in a folder."""

    def __init__(self, folder: Path, worker: Worker | None = None) -> None:
        self.worker = worker or Worker()
        self.folder = folder / "local"
        self._writer = Writer()

    def latest(self) -> Path | None:
        whole = sorted(self.folder.glob("checkpoint-*"))
        return whole[-1] if whole else None

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        if fill is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)

        def write() -> None:
            new = self.folder / f"checkpoint-{step:06d}"
            write_folder(new, fill)
            for path in self.folder.glob("checkpoint-*"):
                if path != new:
                    shutil.rmtree(path)

        self._writer.start(write)

    def wait(self) -> None:
        self._writer.wait()
