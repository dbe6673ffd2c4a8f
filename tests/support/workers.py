"""Workers of a job as processes of their own, without Ray."""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

from ray_bridge.distributed import Worker


def on_two_workers(work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(worker, *arguments)` in two processes that form a group; raises what one of them raised."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_join, (f"file://{folder}/meet", work, arguments), nprocs=2)


def _join(rank: int, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    patience = timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=patience)
    work(Worker(rank=rank, world=2), *arguments)
    # An interpreter that ends while the group's threads still run may abort.
    torch.distributed.destroy_process_group()
