"""Processes of their own without Ray: workers of a job that form a group, and jobs that are killed.

They are forked from one server that has imported PRELOADED once: in a new interpreter each would import for seconds.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

from ray_bridge.distributed import Worker

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


def started(work: Callable[..., object], *arguments: Any, **settings: Any) -> BaseProcess:
    """Start a process that calls `work(*arguments, **settings)`; its `exitcode` is None while it runs."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    process = multiprocessing.get_context("forkserver").Process(
        target=_call, args=(dict(os.environ), work, arguments, settings)
    )
    process.start()
    return process


def _call(
    environment: dict[str, str], work: Callable[..., object], arguments: tuple[Any, ...], settings: dict[str, Any]
) -> None:
    os.environ.clear()
    os.environ.update(environment)  # the server's is that of the first call
    torch.set_num_threads(1)
    work(*arguments, **settings)


def _join(
    rank: int, world: int, meeting: str, environment: dict[str, str], work: Callable[..., None], arguments: Any
) -> None:
    _call(environment, _in_group, (rank, world, meeting, work, arguments), {})


def _in_group(rank: int, world: int, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    patience = timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=patience)
    work(Worker(rank=rank, world=world), *arguments)
    # An interpreter that ends while the group's threads still run may abort.
    torch.distributed.destroy_process_group()
