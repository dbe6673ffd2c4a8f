"""Read what a training step led to while the device computes the next one.

Reading a loss waits for its step. A host that reads it before it prepares the next step leaves the device without work
meanwhile, 8 of 72 ms a step in the paper's geometry on an H100. So the numbers of a step are copied to the host in the
stream's order, and are read when the next step has been launched.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ray_bridge.inputs.encoding import Encoded
from ray_bridge.objectives.objective import Losses


class Mark:
    """A point in the work of a device: what was queued before it is done when it is reached.

    Args:
        device: whose current stream is marked.
    """

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event(enable_timing=True) if device.type == "cuda" else None
        self._at = time.monotonic()
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Wait until the device has reached it."""
        if self._event is not None:
            self._event.synchronize()

    def since(self, earlier: "Mark") -> float:
        """Return the seconds from an earlier mark to this one, both of which have been reached."""
        if self._event is None or earlier._event is None:
            return self._at - earlier._at
        return earlier._event.elapsed_time(self._event) / 1e3


class UnreadStep:
    """A training step that the device may still be computing.

    Args:
        step: its number, from 1.
        losses: its losses.
        norm: (), of its gradient before clipping.
        stop: (1,), whether the trial is asked to stop, or None if this step did not look.
        began: its beginning, or the end of the step before if that is unread, too: the device goes on from there.
        items: its examples on this worker.

    Attributes:
        ended: its end.
    """

    def __init__(
        self, step: int, losses: Losses, norm: Tensor, stop: Tensor | None, began: Mark, items: Sequence[Encoded]
    ) -> None:
        self.step, self.began, self.items = step, began, items
        # The losses' own tensor is a part of the gradients' buffer, which the next step needs the room of.
        self._losses, self._norm = replace(losses, values=_start_copy(losses.values)), _start_copy(norm)
        self._stop = None if stop is None else _start_copy(stop)
        self.ended = Mark(norm.device)

    def read(self) -> tuple[Losses, float, bool]:
        """Wait for the step; return its losses, its gradient's norm, and whether it saw a request to stop."""
        self.ended.wait()
        return self._losses, float(self._norm), self._stop is not None and bool(self._stop.item())

    @property
    def seconds(self) -> float:
        """How long the step took, once it has been read."""
        return self.ended.since(self.began)


def _start_copy(tensor: Tensor) -> Tensor:
    """Return a tensor of any shape on the host, from a GPU as a copy that has only been queued."""
    if not tensor.is_cuda:
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
