"""Asynchronous checkpoints: copied to host memory at once, written by a thread while training goes on.

A checkpoint folder exists completely or not at all. It is filled under another name, flushed to disk and renamed last,
so a process that is killed while it writes leaves the checkpoint before as the newest.
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

from ray_bridge.training.checkpoint import TrainingState

Fill = Callable[[Path], None]
"""Writes a checkpoint's files into an empty folder."""


class Snapshot:
    """Host memory for one copy of the training state, pinned if the state is on a GPU, and reused by every copy.

    A copy is valid until the next one is taken, so it has to be written by then.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[Any, ...], Tensor] = {}
        self._best_step: int | None = None  # the step whose weights the memory holds as the best

    def take(self, state: TrainingState) -> TrainingState:
        """Return a copy of the state on the host that later steps do not change; waits once for the device.

        The best weights are copied only if they changed since the last copy. If they are those of this very step, the
        copy refers to the average (or the weights), so that a file of it holds them once.
        """
        weights = self._copy(state.weights, "weights")
        average = self._copy(state.average, "average")
        optimiser = self._copy(state.optimiser, "optimiser")
        best = state.best
        if best.step == state.step:
            best_weights = average or weights
        elif best.step == self._best_step:
            best_weights = {name: self._memory["best", name] for name in best.weights}
        else:
            best_weights, self._best_step = self._copy(best.weights, "best"), best.step
        for device in {value.device for value in state.weights.values() if value.is_cuda}:
            torch.cuda.current_stream(device).synchronize()
        return replace(
            state, weights=weights, average=average, optimiser=optimiser, best=replace(best, weights=best_weights)
        )

    def _copy(self, value: Any, *path: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._copy(part, *path, name) for name, part in value.items()}
        if isinstance(value, list):
            return [self._copy(part, *path, number) for number, part in enumerate(value)]
        if not isinstance(value, Tensor):
            return value
        memory = self._memory.get(path)
        if memory is None or (memory.shape, memory.dtype) != (value.shape, value.dtype):
            memory = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            self._memory[path] = memory
        return memory.copy_(value.detach(), non_blocking=True)


class Writer:
    """One thread that writes checkpoints one after the other. It makes no call to the device."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[None] | None = None

    def start(self, write: Callable[[], None]) -> "Future[None]":
        """Start to write. Call `wait` before the next `start`: an error of the write before would be lost."""
        self._last = self._thread.submit(write)
        return self._last

    def wait(self) -> None:
        """Wait until the last write has ended. Raises what it raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


def write_folder(folder: Path, fill: Fill) -> None:
    """Write a folder so that it appears completely or not at all; one of the same name is replaced.

    Args:
        folder: the folder, whose parent has to exist.
        fill: writes the files.

    Raises:
        OSError: if it cannot be written; what stood under the name before is still there.
    """
    for left in folder.parent.glob("unfinished*"):
        shutil.rmtree(left, ignore_errors=True)
    unfinished = folder.with_name(f"unfinished-{uuid4().hex}")  # shared with no other process, even a dying one
    unfinished.mkdir()
    try:
        fill(unfinished)
        for path in unfinished.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists():  # written by an attempt that was killed before it was reported
            shutil.rmtree(folder)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
