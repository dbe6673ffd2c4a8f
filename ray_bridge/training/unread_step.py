"""Read what a training step led to while the device computes the next one.

Reading a loss waits for its step. A host that reads it before it prepares the next step leaves the device without work
meanwhile, 8 of 72 ms a step in the paper's geometry on an H100. So the numbers of a step are copied to the host in the
stream's order, and are read when the next step has been launched.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ray_bridge.inputs.encoding import Encoded
from ray_bridge.objectives.objective import Losses


class UnreadStep:
    """A training step that the device may still be computing.

    Args:
        step: its number, from 1.
        losses: its losses.
        norm: (), of its gradient before clipping.
        stop: (1,), whether the trial is asked to stop, or None if this step did not look.
        began: `time.monotonic()` at its beginning.
        items: its examples on this worker.
    """

    def __init__(
        self, step: int, losses: Losses, norm: Tensor, stop: Tensor | None, began: float, items: Sequence[Encoded]
    ) -> None:
        self.step, self.began, self.items = step, began, items
        self._losses, self._numbers = losses, [_start_copy(x) for x in (losses.values, norm)]
        self._stop = None if stop is None else _start_copy(stop)
        self._done = torch.cuda.Event() if norm.is_cuda else None
        if self._done is not None:
            self._done.record()

    def read(self) -> tuple[Losses, float, bool]:
        """Wait for the step; return its losses, its gradient's norm, and whether it saw a request to stop."""
        if self._done is not None:
            self._done.synchronize()
        values, norm = self._numbers
        return replace(self._losses, values=values), float(norm), self._stop is not None and bool(self._stop.item())


def _start_copy(tensor: Tensor) -> Tensor:
    """Return a tensor of any shape on the host, from a GPU as a copy that has only been queued."""
    if not tensor.is_cuda:
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
