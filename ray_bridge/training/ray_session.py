"""A session of Ray Train: checkpoints are written where they stay and reported to Ray once they are complete."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode

from ray_bridge.distributed import Worker
from ray_bridge.training.async_checkpoint import Fill, Writer, write_folder

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

    def checkpoints(self) -> list[Path]:
        """See `Session.checkpoints`: first the one that Ray names, then the others in the run's folder."""
        named = ray.train.get_checkpoint()
        found = written_checkpoints(self.folder)
        if named is None:
            return found
        newest = Path(named.path)
        return [newest, *(path for path in found if path.name != newest.name)]

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        """See `Session.report`. Ray waits for the write in its own thread and registers the complete checkpoint.

        Folders are named by step, so an attempt that resumes from an earlier step replaces those of a killed one.
        """
        name = checkpoint_name(step)
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


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint folder; names sort by step."""
    return f"{PREFIX}{step:08d}"


def written_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a run's folder, the newest first."""
    return sorted(folder.glob(f"{PREFIX}*"), reverse=True)
