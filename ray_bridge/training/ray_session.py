"""The training loop's link to Ray Train: checkpoints written where they stay, known to Ray when they are whole."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode

from ray_bridge.distributed import Worker
from ray_bridge.training.async_checkpoint import Fill, Writer, write_folder


class RaySession:
    """A worker's link to its Ray Train run.

    Args:
        worker: which of the run's workers it is.
        folder: the run's folder, on storage that all of its nodes see.
    """

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker, self.folder = worker, folder
        self._writer = Writer()

    def latest(self) -> Path | None:
        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else Path(checkpoint.path)

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        """Ray waits for the writing in a thread of its own, and knows of a checkpoint only when it is whole.

        Folders are named by step: an attempt that goes on from an earlier step replaces what a killed one had written.
        """
        name = f"checkpoint_{step:08d}"
        place, writing = self.folder / name, None
        if fill is not None:
            writing = self._writer.start(partial(write_folder, place, fill))

        def written(checkpoint: Checkpoint, _: str) -> Checkpoint:
            if writing is not None:
                writing.result()
            return checkpoint

        ray.train.report(
            {"step": float(step), **metrics},
            checkpoint=None if writing is None else Checkpoint(str(place)),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=written,
            delete_local_checkpoint_after_upload=False,  # it has been written where it stays
        )

    def wait(self) -> None:
        self._writer.wait()
