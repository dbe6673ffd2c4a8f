"""How a training step runs its costly passes: plainly, or on a GPU padded to common lengths and as recorded graphs.

Rows of a batch differ in length, and every length is a shape of its own: attention kernels are planned and graphs are
recorded for each. So lengths are rounded up; what is added are pads behind the text, which nothing real attends to.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.bridges.translator import Translator
from ray_bridge.gpu.cuda_graphs import Replay
from ray_bridge.inputs.layout import Batch
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.models.frozen_lm import FrozenLM

FINEST = 32
"""Lengths of the target's rows are rounded up to multiples of it, long ones to coarser steps."""
READING = 128
"""What the bridge reads is rounded up to multiples of it: pads cost little there, recordings do not."""


def rounded(length: int) -> int:
    """A length rounded up: sixteen steps to the doubling, so that no more than a sixteenth of a long row is pads."""
    step = max(FINEST, 1 << max(0, (length - 1).bit_length() - 5))
    return -(-length // step) * step


class Passes:
    """The passes of a translator in front of a frozen target.

    Args:
        translator: what is trained.
        target: the frozen target.
        recorded: whether lengths are rounded up and passes recorded; by default on a GPU.
    """

    def __init__(self, translator: Translator, target: FrozenLM, *, recorded: bool | None = None) -> None:
        self.translator, self.target = translator, target
        self.recorded = target.device.type == "cuda" if recorded is None else recorded
        self.parameters = {name: p for name, p in translator.named_parameters() if p.requires_grad}
        # Each keeps its memory from its forward pass to its backward pass, so each has a pool of its own.
        self.replays = {name: Replay() for name in ("soft", "flow", "student", "teacher")}

    def pause(self, paused: bool) -> None:
        """Whether passes run plainly for now: a recording's backward pass can be taken once only."""
        for replay in self.replays.values():
            replay.paused = paused

    def reading(self, source: SourceBatch) -> tuple[Tensor, ...]:
        """What `soft` and `flow_error` read of a batch, made once for both; see `Translator.reading`."""
        return self.translator.reading(source, _rounded_reading if self.recorded else int)

    def soft(self, reading: tuple[Tensor, ...], noise: Tensor) -> Tensor:
        """Z, (B, K, d_t), through the sampler, with its condition."""

        def sampled(noise: Tensor, *reading: Tensor) -> Tensor:
            return self.translator.sampled(noise, None, *reading)

        return self._trained("soft", sampled, (noise, *reading))

    def flow_error(
        self, reading: tuple[Tensor, ...], data: Tensor, noise: Tensor, times: Tensor, dropped: Tensor | None
    ) -> Tensor:
        """Flow loss of each row, (B,), for data (B, K, d_t) at unit RMS."""
        none = dropped is None

        def error(data: Tensor, noise: Tensor, times: Tensor, dropped: Tensor, *reading: Tensor) -> Tensor:
            return self.translator.flow_error(data, noise, times, None if none else dropped, *reading)

        rows = torch.zeros(len(data), dtype=torch.bool, device=data.device) if dropped is None else dropped
        return self._trained("flow", error, (data, noise, times, rows, *reading))

    def hidden(self, batch: Batch) -> Tensor:
        """The target's last hidden states of a right-padded batch, (B, L' >= L, d_t)."""
        target, prefix, context = self.target, batch.prefix, batch.context

        def read(inputs: Sequence[Tensor], _parameters: Sequence[Tensor]) -> Tensor:
            return target.hidden(*inputs, prefix=prefix, context=context, right_padded=True)

        inputs: tuple[Tensor, ...] = (batch.embeds, batch.mask, batch.positions)
        if not self.recorded or target.body is None:
            return read(inputs, ())
        padding = rounded(batch.mask.shape[1]) - batch.mask.shape[1]
        inputs = (F.pad(inputs[0], (0, 0, 0, padding)), *(F.pad(x, (0, padding)) for x in inputs[1:]))
        if context is not None:  # a recording would neither see other soft tokens nor reach adapters' weights
            return read(inputs, ())
        replay = self.replays["student" if torch.is_grad_enabled() else "teacher"]
        return replay(() if prefix is None else prefix.ids, read, inputs)

    def _trained(self, name: str, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        if not self.recorded:
            return function(*inputs)
        caller = _Caller(self.translator, function)

        def call(inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
            given = dict(zip((f"translator.{n}" for n in self.parameters), parameters, strict=True))
            with _casts_kept():
                return torch.func.functional_call(caller, given, tuple(inputs))

        return self.replays[name](name, call, inputs, list(self.parameters.values()))


def _rounded_reading(length: int) -> int:
    return -(-length // READING) * READING


class _Caller(nn.Module):
    """A function of a translator as a module, so that it can be called with other parameters."""

    def __init__(self, translator: Translator, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.translator, self.function = translator, function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


@contextmanager
def _casts_kept() -> Iterator[None]:
    """Within it autocast brings each weight to half precision once, however often it is used.

    Outside of it that must be off where passes are recorded, since a cast would outlive its recording.
    """
    if not torch.is_autocast_enabled("cuda"):
        yield
        return
    with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), cache_enabled=True):
        torch.clear_autocast_cache()
        try:
            yield
        finally:
            torch.clear_autocast_cache()
