"""Run the workers of a job as processes of their own, without Ray."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

from ray_bridge.distributed import Worker

# Workers are forked from one server that has imported these once: in a new interpreter each would take seconds.
PRELOADED = ["pytest", "tests.support.local_jobs", "transformers.models.auto.modeling_auto"]


def on_two_workers(work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(worker, *arguments)` in two processes that form a group, and raise what one of them raised."""
    on_workers(2, work, *arguments)


def on_workers(world: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(worker, *arguments)` in as many processes, which form a group, and raise what one of them raised."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        everything = (world, f"file://{folder}/meet", dict(os.environ), work, arguments)
        torch.multiprocessing.start_processes(_join, everything, nprocs=world, start_method="forkserver")


def _join(
    rank: int,
    world: int,
    meeting: str,
    variables: dict[str, str],
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.clear()
    os.environ.update(variables)  # the server's are those of the first call
    torch.set_num_threads(1)
    patience = timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=patience)
    work(Worker(rank=rank, world=world), *arguments)
    # An interpreter that ends while the group's threads still run may abort.
    torch.distributed.destroy_process_group()
