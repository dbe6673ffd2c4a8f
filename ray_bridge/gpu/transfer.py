"""From host to device without waiting for it.

A plain copy of pageable memory waits until the device has done all it was told before; from pinned memory the copy
takes its place in the queue and the host goes on. A training step makes a dozen small copies: with plain ones it would
stand still a dozen times.
"""

import math
from itertools import accumulate

import torch
from torch import Tensor

_ALIGNED = 512
"""Bytes at whose multiples a tensor begins, as it would in memory of its own."""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; to a GPU through pinned memory, in the stream's order."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Parcel:
    """Tensors that are filled on the host and reach the device together, in one copy that the host does not wait for.

    Attributes:
        host: the tensors to fill; until then they hold whatever was in memory. None may be changed after `send`.
    """

    def __init__(self, device: torch.device, *kinds: tuple[tuple[int, ...], torch.dtype]) -> None:
        self.device, self._kinds = device, kinds
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in kinds]
        starts = [0, *accumulate(size + -size % _ALIGNED for size in sizes)]
        self._places = [slice(start, start + size) for start, size in zip(starts, sizes, strict=False)]
        self._memory = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.host = self._views(self._memory)

    def send(self) -> list[Tensor]:
        """The tensors on the device."""
        return self._views(self._memory.to(self.device, non_blocking=True))

    def _views(self, memory: Tensor) -> list[Tensor]:
        parts = zip(self._places, self._kinds, strict=True)
        return [memory[place].view(dtype).view(shape) for place, (shape, dtype) in parts]
