"""Preflight: check everything that a run needs before any GPU-hour is spent, on the nodes that will be used.

Every probe has a time limit.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from bridge_common.errors import UserError
from cluster.preflight import gpu_runtime
from cluster.preflight.check import Check, checked
from cluster.preflight.git import check_git
from cluster.preflight.gpus import Reservation, candidates, judge_size, live_nodes, reserve
from cluster.preflight.nodes import check_nodes, gather, send_by_value
from cluster.preflight.settings import PreflightSettings
from cluster.preflight.tracking import check_tracking
from tune_spaces.ray_tune.connect import connected

WORKER_START_S = 15  # a worker process of Ray starts within this time
RUNTIME_S = 60.0  # a first import of torch from a cold file system can take that long
STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def preflight(settings: PreflightSettings) -> list[Check]:
    """Check everything that a run needs.

    Connects to Ray if this process has not, and disconnects again; GPUs are reserved during the check only.

    Returns:
        The checks, in the order of the table. A failed check raises nothing.
    """
    probes = {"git": check_git, "tracking server": check_tracking}
    with ThreadPoolExecutor(len(probes)) as pool:
        waiting = [
            pool.submit(checked, name, lambda probe=probe: probe(settings), settings.timeout_s)  # type: ignore[misc]
            for name, probe in probes.items()
        ]
        try:
            with connected(address=settings.address):
                checks = _check_cluster(settings)
        except UserError as error:
            checks = [Check(name="Ray", status="fail", detail=str(error), remedy="start Ray, or correct the address")]
        own = [] if settings.requirements is None else settings.requirements.context()
        return [*checks, *own, *(check for future in waiting for check in future.result())]


def print_checks(checks: Sequence[Check], console: Any = None) -> None:
    """Print the checks as a table, and a line that counts them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("", "check", "node", "seen", "remedy"):
        table.add_column(title, overflow="fold")
    for check in checks:
        row = (check.name, check.node, check.detail, check.remedy if check.status != "pass" else "")
        table.add_row(Text(check.status, STYLES[check.status]), *map(Text, row))
    console = console or Console()
    console.print(table)
    counts = {status: sum(check.status == status for check in checks) for status in STYLES}
    console.print(", ".join(f"{count} {status}" for status, count in counts.items() if count))


def _check_cluster(settings: PreflightSettings) -> list[Check]:
    nodes = live_nodes()
    problem = judge_size(nodes, settings)
    if problem:
        return [problem]
    wait_s = settings.timeout_s + WORKER_START_S
    with ExitStack() as stack:
        checks: list[Check] = []
        if settings.gpus:
            try:
                reservation = stack.enter_context(reserve(settings))
            except UserError as error:
                detail, _, remedy = str(error).rpartition(": ")
                checks.append(Check(name="GPUs", status="fail", detail=detail, remedy=remedy))
            else:
                what = f"{settings.gpus} x {reservation.node.kind or 'GPU'} reserved at once"
                checks.append(Check(name="GPUs", status="pass", detail=what, node=reservation.node.address))
                checks.append(_check_runtime(reservation, settings))
        else:
            checks.append(Check(name="GPUs", status="skip", detail="the run needs none"))
        return [*checks, *check_nodes(candidates(nodes, settings), settings, wait_s=wait_s)]


def _check_runtime(reservation: Reservation, settings: PreflightSettings) -> Check:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    send_by_value(gpu_runtime)
    task = ray.remote(gpu_runtime.runtime_facts).options(
        num_cpus=0,
        num_gpus=settings.gpus,
        max_retries=0,
        scheduling_strategy=PlacementGroupSchedulingStrategy(reservation.group, placement_group_bundle_index=0),
    )
    limit_s = max(RUNTIME_S, 2 * settings.timeout_s)
    facts = gather({"gpus": task.remote(limit_s)}, limit_s + 10)["gpus"]
    return gpu_runtime.judge_runtime(
        facts if isinstance(facts, dict) else {"problem": str(facts)},
        gpus=settings.gpus,
        kind=settings.gpu_kind,
        modules=settings.modules,
        node=reservation.node.address,
    )
