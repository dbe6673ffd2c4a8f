"""Phase 0: everything a run will need, looked at before any GPU-hour is spent, on the nodes that will be used.

Every probe is bounded in time. Facts are gathered on the nodes by one task each; the judgements are in `checks`.
"""

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.threads import NoAnswerError, bounded
from cluster.preflight import gpu_runtime, node_probe, reachability, shared_storage
from cluster.preflight.check import Check, PreflightSettings, checked
from cluster.preflight.environment_modules import judge_modules
from cluster.preflight.git import check_git
from cluster.preflight.gpus import Node, Reservation, candidates, judge_size, live_nodes, reserve
from tune_spaces.ray_tune.connect import connected

__all__ = ["Check", "PreflightSettings", "preflight", "print_checks", "require", "reserve"]


def preflight(settings: PreflightSettings) -> list[Check]:
    """Look at everything a run needs. Ray is connected if it is not yet, and left again; GPUs are held only meanwhile.

    Returns:
        The checks, in the order of the table. Nothing is raised for what is found.
    """
    driver = [("git", check_git), ("tracking server", reachability.check_tracking)]
    with ThreadPoolExecutor(len(driver)) as pool:
        waiting = [
            pool.submit(checked, name, lambda probe=probe: probe(settings), settings.timeout_s)  # type: ignore[misc]
            for name, probe in driver
        ]
        try:
            with connected(address=settings.address):
                found = _cluster_checks(settings)
        except UserError as error:
            found = [Check(name="Ray", status="fail", detail=str(error), remedy="start Ray, or correct the address")]
        return [*found, *(check for future in waiting for check in future.result())]


def require(checks: Sequence[Check]) -> None:
    """Refuse to go on after failed checks.

    Raises:
        UserError: naming every failed check with its remedy, in one line.
    """
    failed = [check for check in checks if check.status == "fail"]
    if failed:
        raise UserError("preflight: " + "; ".join(f"{c.name}: {c.detail} ({c.remedy})" for c in failed))


def print_checks(checks: Sequence[Check], console: Any = None) -> None:
    """The table of what was found, worst first within its order, and a line that counts it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
    table = Table(box=None, pad_edge=False)
    for title in ("", "check", "node", "found", "remedy"):
        table.add_column(title, overflow="fold")
    for check in checks:
        row = (check.name, check.node, check.detail, check.remedy if check.status != "pass" else "")
        table.add_row(Text(check.status, styles[check.status]), *map(Text, row))
    console = console or Console()
    console.print(table)
    counts = [f"{sum(c.status == s for c in checks)} {s}" for s in styles if any(c.status == s for c in checks)]
    console.print(", ".join(counts))


def _cluster_checks(settings: PreflightSettings) -> list[Check]:
    nodes = live_nodes()
    problem = judge_size(nodes, settings)
    if problem:
        return [problem]
    used = candidates(nodes, settings)
    with ExitStack() as held:
        found: list[Check] = []
        if settings.gpus:
            try:
                reservation = held.enter_context(reserve(settings))
            except UserError as error:
                found.append(Check(name="GPUs", status="fail", detail=str(error), remedy="see there"))
            else:
                what = f"{settings.gpus} x {reservation.node.kind or 'GPU'} held at once"
                found.append(Check(name="GPUs", status="pass", detail=what, node=reservation.node.address))
                found.append(_runtime_check(reservation, settings))
        else:
            found.append(Check(name="GPUs", status="skip", detail="the run asks for none"))
        return [*found, *_node_checks(used, settings)]


def _runtime_check(reservation: Reservation, settings: PreflightSettings) -> Check:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    _send_by_value(gpu_runtime)
    task = ray.remote(gpu_runtime.runtime_facts).options(
        num_cpus=0,
        num_gpus=settings.gpus,
        max_retries=0,
        scheduling_strategy=PlacementGroupSchedulingStrategy(reservation.group, placement_group_bundle_index=0),
    )
    bound = max(60.0, 2 * settings.timeout_s)  # a first import of torch from a cold file system takes its time
    facts = _results({"gpus": task.remote(bound)}, bound + 10)["gpus"]
    return gpu_runtime.judge_runtime(
        facts if isinstance(facts, dict) else {"problem": str(facts)},
        gpus=settings.gpus,
        kind=settings.gpu_kind,
        modules=settings.modules,
        node=reservation.node.address,
    )


def _node_checks(nodes: Sequence[Node], settings: PreflightSettings) -> list[Check]:
    """The checks of every node that may be used, gathered at once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder = Path(os.path.abspath(settings.storage))
    request = {
        **reachability.node_request(settings),
        "storage": str(folder),
        "token": None,
        "timeout_s": settings.timeout_s,
    }
    _send_by_value(node_probe)
    with ExitStack() as stack:
        with contextlib.suppress(OSError, NoAnswerError):  # reported below, by every node, as "not written"
            request["token"] = str(
                bounded(lambda: stack.enter_context(shared_storage.token_below(folder)), settings.timeout_s)
            )
        task = ray.remote(node_probe.node_facts)
        tasks = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
            tasks[node.id] = task.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(request)
        facts = _results(tasks, settings.timeout_s + 15)  # 15 s for the start of a worker process
    return [check for node in nodes for check in _judge_node(facts[node.id], node, settings, folder)]


def _judge_node(facts: Any, node: Node, settings: PreflightSettings, folder: Path) -> list[Check]:
    at = node.address
    if not isinstance(facts, dict):
        remedy = "see `ray status` and this node's load, or take it out of the cluster"
        return [Check(name="node", status="fail", detail=str(facts), remedy=remedy, node=at)]
    return [
        _judge_versions(facts, node_probe.python_facts(), at),
        judge_modules(settings.modules, facts["modules"], at),
        shared_storage.judge_disk(facts["disk"], min_free_gb=settings.min_free_gb, node=at),
        shared_storage.judge_shared(facts["shared"], storage=folder, node=at),
        *reachability.judge_models(facts["models"], at),
        reachability.judge_data(facts["data"], settings, at),
    ]


def _judge_versions(there: dict[str, Any], here: dict[str, Any], node: str) -> Check:
    """The node runs the same libraries as the driver, and finds the project's code."""
    told = ", ".join(f"{name} {version}" for name, version in there["packages"].items())
    if not there["code"]:
        remedy = "submit with a working directory, or install the project on the node"
        return Check(name="software", status="fail", detail="the project's code is not found", remedy=remedy, node=node)
    other = {
        name: f"{name} {version or 'missing'}, driver {here['packages'][name]}"
        for name, version in there["packages"].items()
        if version != here["packages"][name]
    }
    if other:
        worst: Any = "fail" if None in there["packages"].values() else "warn"
        remedy = "install the same versions on every node"
        return Check(name="software", status=worst, detail="; ".join(other.values()), remedy=remedy, node=node)
    return Check(name="software", status="pass", detail=f"python {there['python']}, {told}", node=node)


def _send_by_value(module: Any) -> None:
    """Ship a probe's code with the task: the node may not have the package."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def _results(tasks: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Each task's value; where one hangs or breaks, a string that says so. What hangs is cancelled."""
    import ray

    done, late = ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=timeout_s)
    for ref in late:
        ray.cancel(ref, force=True)
    values: dict[str, Any] = {}
    for key, ref in tasks.items():
        if ref not in done:
            values[key] = f"no answer in {timeout_s:g} s"
            continue
        try:
            values[key] = ray.get(ref)
        except Exception as error:
            values[key] = f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return values
