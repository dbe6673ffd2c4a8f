"""The checks that every phase makes before it starts: those of preflight that take seconds and no GPU."""

import sys
import time
from dataclasses import replace

from cluster.preflight.check import Check, checked
from cluster.preflight.gpus import candidates, judge_size, live_nodes
from cluster.preflight.nodes import NO_ANSWER, check_here, check_nodes
from cluster.preflight.settings import PreflightSettings
from cluster.preflight.tracking import check_tracking

WITHIN_S = 10.0
NODES = 8  # a large cluster is sampled: preflight itself checks every node


def quick_checks(settings: PreflightSettings, within_s: float = WITHIN_S) -> list[Check]:
    """Check software, memory, storage, models, data and tracking, without a reservation.

    Checks the nodes of the connected Ray that could run a job, or this machine if Ray is not connected.

    Args:
        settings: what the run needs.
        within_s: time limit of all checks together. A node that has not answered by then is a warning.
    """
    deadline = time.monotonic() + within_s
    settings = replace(settings, timeout_s=within_s / 2)
    checks = checked("tracking server", lambda: check_tracking(settings), within_s / 2)
    checks += [] if settings.requirements is None else settings.requirements.context()
    wait_s = max(1.0, deadline - time.monotonic())
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        nodes = live_nodes()
        if problem := judge_size(nodes, settings):
            return [problem, *checks]
        checks += check_nodes(candidates(nodes, settings)[:NODES], settings, wait_s=wait_s)
    else:
        checks += check_here(settings, wait_s=wait_s)
    return [replace(check, status="warn") if check.name == NO_ANSWER else check for check in checks]
