"""Differentiable functions as CUDA graphs: captured once for each shape, then launched as one.

The frozen target's pass and the bridge's unrolled sampler are some thousand small kernels in each direction, and the
kernels of a training step of two rows would finish before Python had launched them. The method is that of
`torch.cuda.make_graphed_callables`, whose graphs live as long as the process, hold on to the memory of their warm-up,
and cannot be captured while another graph holds the same parameters.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

Function = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""(inputs, parameters) -> value. Any other tensor that it reads may only be changed in place."""

EAGER_CALLS = 2
"""Eager calls of a shape before its graph is captured: a capture costs as much as five of them."""
MAX_GRAPHS = 48
"""Shapes that are captured; calls with further shapes run eagerly."""


class GraphedCalls:
    """Calls functions with few shapes again and again, one call after another, through CUDA graphs.

    All graphs share one memory pool, as large as the largest graph needs. So a graph may only be replayed once the
    backward pass of the call before has finished or its autograd graph was freed; until then calls run eagerly.

    Attributes:
        graphs: the captured calls by name and shapes.
        eager_calls: how many calls ran eagerly.
        paused: whether calls run eagerly for now, as while the backward pass of a call is to be run more than once.
    """

    def __init__(self, *, eager_before: int = EAGER_CALLS, max_graphs: int = MAX_GRAPHS) -> None:
        self.eager_before, self.max_graphs = eager_before, max_graphs
        self.graphs: dict[Hashable, _CapturedCall] = {}
        self.eager_calls, self.paused = 0, False
        self._calls: Counter[Hashable] = Counter()
        self._pool: Any = None
        self._pending: Callable[[], object] = _no_call

    def __call__(
        self, name: Hashable, function: Function, inputs: Sequence[Tensor], parameters: Sequence[Tensor] = ()
    ) -> Tensor:
        """Return the function's value, with gradient to inputs and parameters.

        The value is in the graph's own memory: it is overwritten by the next call.

        Args:
            name: tells functions apart.
            function: a function of `inputs` and `parameters`.
            inputs: tensors that differ between calls.
            parameters: leaves that are the same tensors in every call.
        """
        key = (name, torch.is_grad_enabled(), *((x.shape, x.dtype, x.requires_grad) for x in inputs))
        self._calls[key] += 1
        ready = key in self.graphs or (self._calls[key] > self.eager_before and len(self.graphs) < self.max_graphs)
        if not ready or self.paused or not inputs[0].is_cuda or self._pending() is not None:
            self.eager_calls += 1
            return function(inputs, parameters)
        if key not in self.graphs:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            try:
                self.graphs[key] = _CapturedCall(function, inputs, parameters, self._pool)
            except torch.OutOfMemoryError:
                self.release()  # a graph that is half captured leaves its pool unusable
                raise
        call = self.graphs[key]
        value: Tensor = _Replay.apply(call, *inputs, *parameters)
        self._pending = call.pending
        return value

    def release(self) -> None:
        """Give up all graphs and their memory; calls run eagerly until their shapes are captured again."""
        self.graphs.clear()
        self._calls.clear()
        self._pool, self._pending = None, _no_call


class _CapturedCall:
    """The forward and the backward pass of a function at one shape.

    Inputs are copied into buffers. Parameters are read where they are, through leaves of this call's own: a leaf that
    an eager call's autograd graph holds too would tie the capture to the stream on which that call ran.

    Attributes:
        pending: returns an object until the last replay's backward pass has finished or its autograd graph is freed.
    """

    pending: Callable[[], object]

    def __init__(self, function: Function, inputs: Sequence[Tensor], parameters: Sequence[Tensor], pool: Any) -> None:
        self.function = function  # keeps alive the tensors that it reads
        self.buffers = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
        aliases = [p.detach().requires_grad_(p.requires_grad) for p in parameters]
        torch.cuda.current_blas_handle()  # makes cuBLAS's handle, which a capture does not allow
        self.forward = torch.cuda.CUDAGraph()
        # Other threads (a collective's watchdog, Ray's) may call CUDA meanwhile.
        with torch.cuda.graph(self.forward, pool=pool, capture_error_mode="thread_local"):
            value = function(self.buffers, aliases)
        self.backward: torch.cuda.CUDAGraph | None = None
        self.gradients: list[Tensor | None] = [None] * (len(inputs) + len(parameters))
        if value.requires_grad:
            places = [i for i, leaf in enumerate([*self.buffers, *aliases]) if leaf.requires_grad]
            leaves = [[*self.buffers, *aliases][i] for i in places]
            self.grad_output = torch.empty_like(value)
            self.backward = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.backward, pool=pool, capture_error_mode="thread_local"):
                gradients = torch.autograd.grad(value, leaves, self.grad_output, allow_unused=True)
            for i, gradient in zip(places, gradients, strict=True):
                self.gradients[i] = gradient
        self.value = value.detach()
        # A graph's memory goes with the graph, and the allocator unmaps it once the stream of the capture is idle.
        # Replays run on another stream: without this, one that is still running would read unmapped memory.
        weakref.finalize(self, torch.cuda.synchronize).atexit = False


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _CapturedCall, *arguments: Tensor) -> Tensor:
        for buffer, argument in zip(call.buffers, arguments, strict=False):
            buffer.detach().copy_(argument)
        call.forward.replay()
        ctx.call, ctx.pending = call, _PendingBackward()
        call.pending = weakref.ref(ctx.pending)  # without gradients, nobody holds the object: nothing is pending
        return call.value.detach()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        call: _CapturedCall = ctx.call
        assert call.backward is not None
        call.grad_output.copy_(grad_outputs[0])
        call.backward.replay()
        # The engine's threads may hold the autograd graph a little longer than its backward pass takes.
        if not torch._C._autograd._get_current_graph_task_keep_graph():
            engine: Any = torch.autograd.Variable._execution_engine
            engine.queue_callback(partial(setattr, ctx, "pending", None))
        return None, *(None if g is None else g.detach() for g in call.gradients)


class _PendingBackward:
    """Exists until a backward pass that frees the autograd graph has finished, or the graph is freed without one."""


def _no_call() -> None:
    return None
