"""Differentiable functions as CUDA graphs: recorded once for each shape, then launched as one.

The frozen target's pass and the bridge's unrolled sampler are some thousand small kernels each way, and a training
step of two rows would be over before Python has launched them. The way is that of `torch.cuda.make_graphed_callables`,
whose recordings live as long as the process, hold on to the memory of their warm-up, and cannot be made while another
graph holds the same parameters.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""(inputs, parameters) -> value. Whatever else it reads is a tensor that is only ever changed in place."""

USES = 2
"""Calls of one shape that run plainly before it is recorded: a recording costs as much as five of them."""
MOST = 48
"""Shapes that are recorded; further ones run plainly."""


class Replay:
    """A function that is called again and again with the same shapes, one call after another.

    All recordings share one pool of memory, as large as the largest needs it. So a recording may only be replayed once
    the backward pass of the one before is over or will never come: until then calls run plainly.

    Attributes:
        recorded: the recordings by name and shapes.
        plain: how many calls ran plainly.
        paused: whether calls run plainly for now, such as where a backward pass is to be taken more than once.
    """

    def __init__(self, *, uses: int = USES, most: int = MOST) -> None:
        self.uses, self.most = uses, most
        self.recorded: dict[Hashable, _Recording] = {}
        self.plain, self.paused = 0, False
        self._calls: Counter[Hashable] = Counter()
        self._pool: Any = None
        self._open: Callable[[], object] = _nothing

    def __call__(
        self, name: Hashable, function: Function, inputs: Sequence[Tensor], parameters: Sequence[Tensor] = ()
    ) -> Tensor:
        """The function's value, with gradient to inputs and parameters.

        The value lives in the recording's own memory: it is good until the next call.

        Args:
            name: tells functions apart.
            function: a function of `inputs` and `parameters`.
            inputs: what differs between calls.
            parameters: leaves that are the same tensors in every call.
        """
        key = (name, torch.is_grad_enabled(), *((x.shape, x.dtype, x.requires_grad) for x in inputs))
        self._calls[key] += 1
        ready = key in self.recorded or (self._calls[key] > self.uses and len(self.recorded) < self.most)
        if not ready or self.paused or not inputs[0].is_cuda or self._open() is not None:
            self.plain += 1
            return function(inputs, parameters)
        if key not in self.recorded:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self.recorded[key] = _Recording(function, inputs, parameters, self._pool)
        value: Tensor = _Replayed.apply(self.recorded[key], *inputs, *parameters)
        if value.grad_fn is not None:
            held = _Held()
            node: Any = value.grad_fn
            node.metadata["held"] = held  # lives as long as the graph of the backward pass
            self._open = weakref.ref(held)
        return value


class _Recording:
    """A function's two passes at one shape.

    Inputs are copied into buffers; parameters are read where they are, through leaves of the recording's own: a leaf
    that a plain graph holds too would tie the recording to the stream on which that one ran.
    """

    def __init__(self, function: Function, inputs: Sequence[Tensor], parameters: Sequence[Tensor], pool: Any) -> None:
        self.function = function  # what it reads must live on
        self.buffers = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
        aliases = [p.detach().requires_grad_(p.requires_grad) for p in parameters]
        self.forward = torch.cuda.CUDAGraph()
        # Other threads (a collective's watchdog, Ray's) may call CUDA meanwhile.
        with torch.cuda.graph(self.forward, pool=pool, capture_error_mode="thread_local"):
            value = function(self.buffers, aliases)
        self.backward: torch.cuda.CUDAGraph | None = None
        self.gradients: list[Tensor | None] = [None] * (len(inputs) + len(parameters))
        if value.requires_grad:
            places = [i for i, leaf in enumerate([*self.buffers, *aliases]) if leaf.requires_grad]
            leaves = [[*self.buffers, *aliases][i] for i in places]
            self.outer = torch.empty_like(value)
            self.backward = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.backward, pool=pool, capture_error_mode="thread_local"):
                found = torch.autograd.grad(value, leaves, self.outer, allow_unused=True)
            for i, gradient in zip(places, found, strict=True):
                self.gradients[i] = gradient
        self.value = value.detach()


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: _Recording, *arguments: Tensor) -> Tensor:
        for buffer, given in zip(recording.buffers, arguments, strict=False):
            buffer.detach().copy_(given)
        recording.forward.replay()
        ctx.recording = recording
        return recording.value.detach()

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        recording: _Recording = ctx.recording
        assert recording.backward is not None
        recording.outer.copy_(outer[0])
        recording.backward.replay()
        return None, *(None if g is None else g.detach() for g in recording.gradients)


class _Held:
    """Something to hold on to."""


def _nothing() -> None:
    return None
