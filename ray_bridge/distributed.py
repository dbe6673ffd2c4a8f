"""The few collective operations of a job, which work the same with one worker as with many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process of a job.

    Attributes:
        rank: 0 to world - 1; rank 0 writes files.
        world: number of workers.
        device: where it computes.
        shards: workers that hold the parts of one target; consecutive ranks do.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shards: int = 1

    @property
    def data_parallel(self) -> "Worker":
        """This process among groups of workers that read different rows: `rank` is its group, `world` their number.

        All workers that hold the parts of one target read the same rows and compute the same numbers from them. This
        view shares rows out among groups, and its sums and lists have the part of each group once.
        """
        if self.shards == 1:
            return self
        return _Groups(
            rank=self.rank // self.shards, world=self.world // self.shards, device=self.device, members=self.shards
        )

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return this worker's indices out of `count`: every world-th one, so that none is left out."""
        return range(self.rank, count, self.world)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor of any shape over workers, in place, and return it."""
        if self.world > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Overwrite a tensor of any shape by rank 0's, in place, and return it."""
        if self.world > 1:
            torch.distributed.broadcast(tensor, 0)
        return tensor

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Concatenate equal shares (b, ...) of all workers in rank order, (world * b, ...), without gradient."""
        if self.world == 1:
            return rows.detach()
        shares = [torch.empty_like(rows) for _ in range(self.world)]
        torch.distributed.all_gather(shares, rows.detach().contiguous())
        return torch.cat(shares)

    def gather(self, value: object) -> list[object]:
        """Return a picklable value of every worker, in rank order, on every worker."""
        if self.world == 1:
            return [value]
        values: list[object] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def deal(self, count: int, make: Callable[[Sequence[int]], Sequence[T]]) -> list[T]:
        """Return what `make` makes of the numbers 0 to count - 1: each worker makes its share and gets all others.

        Args:
            count: the same on every worker.
            make: returns one picklable value for each number.
        """
        made: list[Any] = [None] * count
        for rank, share in enumerate(self.gather(make(self.share(count)))):
            made[rank :: self.world] = share  # type: ignore[call-overload]
        return made

    def barrier(self) -> None:
        """Wait until every worker has called this."""
        if self.world > 1:
            torch.distributed.barrier()


@dataclass(frozen=True, kw_only=True)
class _Groups(Worker):
    """See `Worker.data_parallel`; `members` is the number of workers in a group."""

    members: int

    def sum(self, tensor: Tensor) -> Tensor:
        # Over all workers, so that the result has the same bits on all of them even if those of a group differ by
        # rounding: replicas of the trained weights would drift apart.
        torch.distributed.all_reduce(tensor)
        return tensor.div_(self.members)

    def broadcast(self, tensor: Tensor) -> Tensor:
        torch.distributed.broadcast(tensor, 0)
        return tensor

    def gather_rows(self, rows: Tensor) -> Tensor:
        shares = [torch.empty_like(rows) for _ in range(self.world * self.members)]
        torch.distributed.all_gather(shares, rows.detach().contiguous())
        return torch.cat(shares[:: self.members])

    def gather(self, value: object) -> list[object]:
        values: list[object] = [None] * (self.world * self.members)
        torch.distributed.all_gather_object(values, value)
        return values[:: self.members]

    def barrier(self) -> None:
        torch.distributed.barrier()
