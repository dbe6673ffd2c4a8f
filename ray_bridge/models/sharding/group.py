"""The processes that hold the parts of one model, and the collective operations between them.

A layer is cut as in Megatron-LM (Shoeybi et al. 2019): products that widen the states are cut by their outputs, and
products that bring them back by their inputs. Between layers every process has the whole states, so a forward pass sums
the partial results after attention and after the MLP, and a backward pass sums the partial gradients before them. The
gradient to a layer's input, and so to the soft tokens, is then whole and the same on every process of the group.
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor

from ray_bridge.distributed import Worker


class ShardGroup:
    """The processes that hold one model's parts.

    Attributes:
        rank: number of this process's part, from 0.
        size: number of parts.
        first: global rank of the process that holds part 0.
        device: of this process's part.
    """

    def __init__(self, *, rank: int, size: int, first: int, device: torch.device, handle: Any = None) -> None:
        self.rank, self.size, self.first, self.device = rank, size, first, device
        self._handle = handle  # None is the group of all processes

    @classmethod
    def of(cls, worker: Worker) -> "ShardGroup | None":
        """Return the group of a worker, or None if each worker holds whole models.

        Every worker has to call it at the same time: process groups are made by all processes together.
        """
        if worker.shards == 1:
            return None
        replica, rank = divmod(worker.rank, worker.shards)
        handle = None
        for number in range(worker.world // worker.shards if worker.shards < worker.world else 0):
            first = number * worker.shards
            made = torch.distributed.new_group(list(range(first, first + worker.shards)))
            handle = made if number == replica else handle
        return cls(rank=rank, size=worker.shards, first=replica * worker.shards, device=worker.device, handle=handle)

    def __deepcopy__(self, _memo: dict[int, Any]) -> "ShardGroup":
        """Return the group itself: copies of a model's layers belong to the same processes."""
        return self

    def enter(self, x: Tensor) -> Tensor:
        """Return states as they are, (...); in the backward pass, sum their gradient over the group."""
        return _Enter.apply(x, self) if x.requires_grad and torch.is_grad_enabled() else x

    def sum(self, x: Tensor) -> Tensor:
        """Sum partial results over the group, (...), in place; the backward pass hands the gradient on as it is."""
        return _Sum.apply(x, self)

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum a contiguous tensor over the group in place, without gradient, and return it."""
        torch.distributed.all_reduce(x, group=self._handle)
        return x

    def agree(self, x: Tensor) -> Tensor:
        """Overwrite a tensor of any shape by that of the group's first process, in place, and return it.

        Whatever decides how a computation goes on has to be the same on all of them: where one stops and another goes
        on, the other waits for ever.
        """
        torch.distributed.broadcast(x, self.first, group=self._handle)
        return x

    def own_slice(self, x: Tensor) -> Tensor:
        """Return a copy of this process's slice of a tensor that all of them have, (n,) -> (n / size,)."""
        return x.view(self.size, -1)[self.rank].clone()

    def gather(self, own: Tensor) -> Tensor:
        """Return the tensor of which each process has a slice, (n / size,) -> (n,)."""
        whole = own.new_empty(self.size * len(own))
        torch.distributed.all_gather(list(whole.split(len(own))), own, group=self._handle)
        return whole

    def least(self, value: float) -> float:
        """Return the smallest of the values of all processes of the group."""
        values = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MIN, group=self._handle)
        return float(values)

    def all(self, condition: bool) -> bool:
        """Return whether a condition holds on every process of the group."""
        return bool(self.least(float(condition)))


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ShardGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        # A copy: other nodes of the graph may hold the same gradient.
        return ctx.group.all_reduce(grad_outputs[0].clone(memory_format=torch.contiguous_format)), None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ShardGroup) -> Tensor:
        ctx.mark_dirty(x)
        return group.all_reduce(x)

    @staticmethod
    def backward(_ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0], None
