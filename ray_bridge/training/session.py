"""What the training loop needs of whoever runs it, so that the loop itself knows nothing of Ray."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ray_bridge.distributed import Worker
from ray_bridge.training.async_checkpoint import Fill, Writer, write_folder


class Session(Protocol):
    """A worker's link to the run that it is part of.

    Attributes:
        worker: this process among the run's workers.
    """

    worker: Worker

    def checkpoints(self) -> list[Path]:
        """Return the folders of the complete checkpoints, the newest first; none at a fresh start.

        Callers only read them. The same on every worker.
        """

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        """Report metrics and, on rank 0, start to write a checkpoint.

        Every worker calls it at the same step. A thread writes while the caller goes on; `checkpoints` has
        it once it is complete. Rank 0 calls `wait` before the next report.

        Args:
            step: optimiser steps done.
            metrics: numbers of that step.
            fill: writes the checkpoint's files into a folder; None on other ranks.
        """

    def wait(self) -> None:
        """Wait until the last reported checkpoint is complete; raises the error that its writing raised."""


class LocalSession:
    """A session of one process without Ray, which keeps its newest checkpoint below a folder."""

    def __init__(self, folder: Path, worker: Worker | None = None) -> None:
        self.worker = worker or Worker()
        self.folder = folder / "local"
        self._writer = Writer()

    def checkpoints(self) -> list[Path]:
        """See `Session.checkpoints`."""
        return sorted(self.folder.glob("checkpoint-*"), reverse=True)

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        """See `Session.report`; checkpoints before this one are deleted once it is complete."""
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
        """See `Session.wait`."""
        self._writer.wait()
