"""The session of a job that a resident group of workers runs: checkpoints lie where Ray Train's would."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from ray_bridge.distributed import Worker
from ray_bridge.training.async_checkpoint import Fill, Writer, write_folder
from ray_bridge.training.ray_run import KEPT
from ray_bridge.training.ray_session import checkpoint_name, written_checkpoints


class ResidentSession:
    """A worker's link to the resident group that runs its job.

    Args:
        worker: this process among the group's workers.
        folder: the job's folder for checkpoints; a Ray Train run of its own would go on from them.
        report: takes the metrics of a checkpoint that is complete, and its folder.
    """

    def __init__(self, worker: Worker, folder: Path, report: Callable[[dict[str, float], str], None]) -> None:
        self.worker, self.folder = worker, folder
        self._report, self._writer = report, Writer()

    def checkpoints(self) -> list[Path]:
        """See `Session.checkpoints`."""
        return written_checkpoints(self.folder)

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        """See `Session.report`; checkpoints but the newest two are deleted once this one is complete."""
        if fill is None:
            return
        new = self.folder / checkpoint_name(step)

        def write() -> None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_folder(new, fill)
            for old in [path for path in self.checkpoints() if path.name <= new.name][KEPT:]:
                shutil.rmtree(old)
            self._report({"step": float(step), **metrics}, str(new))

        self._writer.start(write)

    def wait(self) -> None:
        """See `Session.wait`."""
        self._writer.wait()
