"""Run the workers of a job as processes of their own, without Ray."""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

from ray_bridge.distributed import Worker


def on_two_workers(work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(worker, *arguments)` in two processes that form a group, and raise what one of them raised."""
    on_workers(2, work, *arguments)


def on_workers(world: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(worker, *arguments)` in as many processes, which form a group, and raise what one of them raised."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_join, (world, f"file://{folder}/meet", work, arguments), nprocs=world)


def _join(rank: int, world: int, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    patience = timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=patience)
    work(Worker(rank=rank, world=world), *arguments)
    # An interpreter that ends while the group's threads still run may abort.
    torch.distributed.destroy_process_group()
