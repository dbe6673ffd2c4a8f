"""A session of Ray Train: checkpoints are written where they stay and reported to Ray once they are complete."""

from collections.abc import Mapping
from functools import partial
from itertools import count
from pathlib import Path

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode

from ray_bridge.distributed import Worker
from ray_bridge.training.async_checkpoint import Fill, Writer, write_folder
from ray_bridge.training.ray_snapshot import listed_checkpoints

PREFIX = "checkpoint_"


class RaySession:
    """A worker's link to its Ray Train run.

    Args:
        worker: this process among the run's workers.
        folder: the run's folder, on storage that all of its nodes share.
    """

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker, self.folder = worker, folder
        self._writer = Writer()
        self._listed: set[str] = set()

    def checkpoints(self) -> list[Path]:
        """See `Session.checkpoints`: first the one that Ray names, then the others in the run's folder."""
        named = ray.train.get_checkpoint()
        found, self._listed = written_checkpoints(self.folder), listed_checkpoints(self.folder)
        if named is None:
            return found
        newest = Path(named.path)
        return [newest, *(path for path in found if path.name != newest.name)]

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        """See `Session.report`. Ray waits for the write in its own thread and registers the complete checkpoint.

        Folders are named by step, so an attempt that resumes from an earlier step replaces those of a killed one. Only
        one that is damaged and in Ray's list is not replaced, since Ray removes what its list names, each name once.
        """
        name = self._free_name(step)
        place, writing = self.folder / name, None
        if fill is not None:
            writing = self._writer.start(partial(write_folder, place, fill))

        def when_written(checkpoint: Checkpoint, _: str) -> Checkpoint:
            if writing is not None:
                writing.result()
            return checkpoint

        ray.train.report(
            {"step": float(step), **metrics},
            checkpoint=None if writing is None else Checkpoint(str(place)),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=when_written,
            delete_local_checkpoint_after_upload=False,  # it was written where it stays
        )

    def wait(self) -> None:
        """See `Session.wait`."""
        self._writer.wait()

    def _free_name(self, step: int) -> str:
        name = checkpoint_name(step)
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        return next(name for name in names if name not in self._listed)


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint folder; names sort by step."""
    return f"{PREFIX}{step:08d}"


def written_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a run's folder, the newest first."""
    return sorted(folder.glob(f"{PREFIX}*"), reverse=True)
