"""Starting or joining Ray, quietly, and ending it in a way that leaves no GPU taken."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ray_bridge import RunSpec
from tune_spaces.ray_tune.nodes import check_fits, check_local, needs

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # those that are wanted are named
    "RAY_AIR_NEW_OUTPUT": "0",  # the other reporter prints its tables whatever the verbosity
    # A job that cannot be placed fails after this many seconds instead of waiting for ever.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
}


def joins() -> bool:
    """Whether there is a cluster to join rather than a local Ray to start."""
    return bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def connected(run: RunSpec) -> Iterator[None]:
    """A connected Ray that can hold a job: the one that is connected, the one at `RAY_ADDRESS`, or a local one.

    Raises:
        UserError: where no node can hold the job; before a local Ray starts, if that can be told.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        check_fits(run)
        yield
        return
    if not joins():
        check_local(run)
    import ray

    if joins():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    else:
        # With token authentication a local Ray leaves a token file that a later `ray start` would insist on.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        # Without the dashboard a run that is stopped in mid-training keeps its GPUs.
        ray.init(
            address="local",  # never a Ray that somebody else has started on this machine
            num_cpus=max(os.cpu_count() or 1, int(-(-needs(run)["CPU"] // 1))),
            include_dashboard=True,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        check_fits(run)
        yield
    finally:
        ray.shutdown()
