"""Checks of single nodes: facts are gathered on the nodes by one task each, and judged in the driver."""

import contextlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bridge_common.threads import NoAnswerError, bounded
from cluster.preflight import models_and_data, node_probe, shared_storage
from cluster.preflight.check import Check
from cluster.preflight.environment_modules import judge_modules
from cluster.preflight.gpus import Node
from cluster.preflight.memory import judge_estimates, judge_memory
from cluster.preflight.settings import PreflightSettings

NO_ANSWER = "node"  # name of the check that fails if a node does not answer


def check_nodes(nodes: Sequence[Node], settings: PreflightSettings, *, wait_s: float) -> list[Check]:
    """Check all nodes at once. Ray must be connected.

    Args:
        nodes: the nodes to check.
        settings: what the run needs.
        wait_s: seconds within which a node has to answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    send_by_value(node_probe)
    with _request(settings) as request:
        task = ray.remote(node_probe.node_facts)
        tasks = {}
        for node in nodes:
            on_node = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
            tasks[node.id] = task.options(num_cpus=0, max_retries=0, scheduling_strategy=on_node).remote(request)
        facts = gather(tasks, wait_s)
    return [check for node in nodes for check in judge_node(facts[node.id], node.address, settings)]


def check_here(settings: PreflightSettings, *, wait_s: float) -> list[Check]:
    """Check this machine, in this process, as `check_nodes` does a node."""
    with _request(settings) as request:
        try:
            facts: Any = bounded(lambda: node_probe.node_facts(request), wait_s)
        except NoAnswerError as error:
            facts = str(error)
    return judge_node(facts, "", settings)


def judge_node(facts: Any, address: str, settings: PreflightSettings) -> list[Check]:
    """Return the checks of a node from its facts; a failed one if `facts` is a message that says why there are none."""
    if not isinstance(facts, dict):
        remedy = "see `ray status` and this node's load, or take it out of the cluster"
        return [Check(name=NO_ANSWER, status="fail", detail=str(facts), remedy=remedy, node=address)]
    return [
        _judge_versions(facts, node_probe.python_facts(), address),
        judge_modules(settings.modules, facts["modules"], address),
        judge_memory(facts, settings, address),
        *judge_estimates(facts, settings, address),
        shared_storage.judge_disk(facts["disk"], min_free_gb=settings.min_free_gb, node=address),
        shared_storage.judge_shared(facts["shared"], storage=_storage(settings), node=address),
        *models_and_data.judge_models(facts["models"], address),
        models_and_data.judge_data(facts["data"], settings, address),
    ]


def gather(tasks: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Return each task's value, or a message if it hangs or raises; tasks that hang are cancelled."""
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


def send_by_value(module: Any) -> None:
    """Send a probe's code with its task, since the node may not have this project."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(module)


@contextlib.contextmanager
def _request(settings: PreflightSettings) -> Any:
    """Yield the request to a node, with a file in the storage that exists during the block."""
    folder = _storage(settings)
    request = {
        **models_and_data.node_request(settings),
        "storage": str(folder),
        "token": None,
        "gpus": settings.gpus > 0,
        "timeout_s": settings.timeout_s,
    }
    with ExitStack() as stack:
        with contextlib.suppress(OSError, NoAnswerError):  # every node reports it as "not written"
            request["token"] = str(
                bounded(lambda: stack.enter_context(shared_storage.token_below(folder)), settings.timeout_s)
            )
        yield request


def _storage(settings: PreflightSettings) -> Path:
    return Path(os.path.abspath(settings.storage))


def _judge_versions(there: dict[str, Any], here: dict[str, Any], node: str) -> Check:
    """Check that the node has the same libraries as the driver, and this project's code."""
    if not there["code"]:
        remedy = "submit with a working directory, or install the project on the node"
        detail = "the project's code is not installed"
        return Check(name="software", status="fail", detail=detail, remedy=remedy, node=node)
    different = [
        f"{name} {version or 'missing'}, driver {here['packages'][name]}"
        for name, version in there["packages"].items()
        if version != here["packages"][name]
    ]
    if different:
        worst: Any = "fail" if None in there["packages"].values() else "warn"
        remedy = "install the same versions on every node"
        return Check(name="software", status=worst, detail="; ".join(different), remedy=remedy, node=node)
    packages = ", ".join(f"{name} {version}" for name, version in there["packages"].items())
    return Check(name="software", status="pass", detail=f"python {there['python']}, {packages}", node=node)
