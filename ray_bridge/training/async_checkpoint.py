"""Checkpoints beside training: copied to the host at once, written by a thread while the next steps are taken.

A checkpoint is whole or absent. Its folder is filled under another name, flushed to the disk and renamed last, so a
process that dies while it writes leaves the one before as the newest.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from ray_bridge.training.checkpoint import Progress

Fill = Callable[[Path], None]
"""Writes a checkpoint's files into an empty folder."""


class Snapshot:
    """Host memory for one copy of a job's state, pinned where that is on a GPU, and used again for every copy.

    A copy is valid until the next is taken, so whoever writes it has to be done by then.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[Any, ...], Tensor] = {}
        self._best_step: int | None = None  # whose weights the memory holds as the best

    def take(self, progress: Progress) -> Progress:
        """The same state on the host, where later steps do not change it. Waits for the device once.

        The best weights are copied only if others were best at the last copy. Those of this very step are its average,
        or its weights, over again: the copy refers to these, and a file of it holds them once.
        """
        weights = self._copy(progress.weights, "weights")
        average = self._copy(progress.average, "average")
        optimiser = self._copy(progress.optimiser, "optimiser")
        best = progress.best
        if best.step == progress.step:
            chosen = average or weights
        elif best.step == self._best_step:
            chosen = {name: self._memory["best", name] for name in best.weights}
        else:
            chosen, self._best_step = self._copy(best.weights, "best"), best.step
        for device in {value.device for value in progress.weights.values() if value.is_cuda}:
            torch.cuda.current_stream(device).synchronize()
        return replace(
            progress, weights=weights, average=average, optimiser=optimiser, best=replace(best, weights=chosen)
        )

    def _copy(self, value: Any, *place: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._copy(part, *place, name) for name, part in value.items()}
        if isinstance(value, list):
            return [self._copy(part, *place, number) for number, part in enumerate(value)]
        if not isinstance(value, Tensor):
            return value
        memory = self._memory.get(place)
        if memory is None or (memory.shape, memory.dtype) != (value.shape, value.dtype):
            memory = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            self._memory[place] = memory
        return memory.copy_(value.detach(), non_blocking=True)


class Writer:
    """One thread that writes one thing after the other. It makes no call to the device."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[None] | None = None

    def start(self, write: Callable[[], None]) -> "Future[None]":
        """Begin to write; whoever starts the next without `wait` in between would lose this one's error."""
        self._last = self._thread.submit(write)
        return self._last

    def wait(self) -> None:
        """Until all is written. Raises, once, what the writing raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


def write_folder(folder: Path, fill: Fill) -> None:
    """Make a folder appear whole, on disk, in place of what may stand there; its parent has to exist.

    Raises:
        OSError: where it cannot be written; then nothing stands under its name that did not before.
    """
    for left in folder.parent.glob("unfinished*"):
        shutil.rmtree(left, ignore_errors=True)
    unfinished = folder.with_name(f"unfinished-{uuid4().hex}")  # shared with no writer that is about to die
    unfinished.mkdir()
    try:
        fill(unfinished)
        for path in unfinished.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists():  # by an attempt that died before anyone heard of it
            shutil.rmtree(folder)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
