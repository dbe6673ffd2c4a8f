"""Copies between host and GPU that the host does not wait for.

A copy from pageable memory waits until the device has done all earlier work; a copy from pinned memory takes its place
in the stream and the host goes on. A training step makes a dozen small copies, each of which would otherwise stall it.
"""

import math
from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

_ALIGNMENT = 512
"""Bytes at whose multiples a tensor begins, as it would in an allocation of its own."""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of any shape on the device; to a GPU through pinned memory, in the stream's order."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def fetch(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor of any shape to the host, in the stream's order.

    Returns:
        A function that waits for the copy, in any thread, and returns it.
    """
    if tensor.device.type != "cuda":
        return lambda: tensor
    device = tensor.device
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> Tensor:
        with torch.cuda.device(device):  # a thread begins with GPU 0, on which it would open a context
            copied.synchronize()
        return host

    return wait


class PackedTransfer:
    """Tensors that are filled on the host and reach the device in one copy, which the host does not wait for.

    Args:
        device: where they are sent.
        *layouts: shape and dtype of each tensor.

    Attributes:
        host: the tensors to fill, uninitialised at first. None may be changed after `send`.
    """

    def __init__(self, device: torch.device, *layouts: tuple[tuple[int, ...], torch.dtype]) -> None:
        self.device, self._layouts = device, layouts
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in layouts]
        starts = [0, *accumulate(size + -size % _ALIGNMENT for size in sizes)]
        self._places = [slice(start, start + size) for start, size in zip(starts, sizes, strict=False)]
        self._memory = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.host = self._views(self._memory)

    def send(self) -> list[Tensor]:
        """Return the tensors on the device, with the shapes and dtypes of the layouts."""
        return self._views(self._memory.to(self.device, non_blocking=True))

    def _views(self, memory: Tensor) -> list[Tensor]:
        parts = zip(self._places, self._layouts, strict=True)
        return [memory[place].view(dtype).view(shape) for place, (shape, dtype) in parts]
