"""Check of memory: every worker holds both models, or a part of the target, in the node's memory or on its GPU."""

from collections.abc import Mapping
from typing import Any

from cluster.preflight.check import Check, Status
from cluster.preflight.settings import PreflightSettings

PROCESS_BYTES = 0.8e9  # a worker with torch, transformers and Ray imported, as measured
RAY_BYTES = 1.5e9  # Ray's own processes on a node, as measured


def judge_memory(facts: Mapping[str, Any], settings: PreflightSettings, node: str) -> Check:
    """Compare what the workers of a job load with the memory of a node.

    Args:
        facts: `memory`, with `available` bytes; `gpu_memory`, total bytes of each GPU, empty if not known; `models`,
            with `parameters` of each, or None if they are not known.
        settings: what the run needs.
        node: the node's address.

    Returns:
        A failure if the weights alone do not fit, a warning if the whole may not.
    """
    parameters = [facts["models"][name].get("parameters") for name in settings.models[:2]]
    own = settings.bytes_per_target_parameter or settings.bytes_per_parameter
    shares = (settings.bytes_per_parameter, own / settings.shards)  # the source whole, of the target a part at least
    weights = sum(number * share for number, share in zip(parameters, shares, strict=False) if number)
    smallest = min(facts["gpu_memory"], default=None)
    if settings.gpus and smallest is not None and weights > smallest:
        what = "both models need" if settings.shards == 1 else "the source and a part of the target need"
        detail = f"{what} {weights / 1e9:.0f} GB on each GPU; the smallest has {smallest / 1e9:.0f} GB"
        return Check(name="memory", status="fail", detail=detail, remedy="use larger GPUs or other models", node=node)
    available = facts["memory"]["available"]
    loaded = 0 if settings.gpus else weights * settings.workers
    wanted = loaded + settings.workers * PROCESS_BYTES + RAY_BYTES
    detail = f"{available / 1e9:.1f} GB available, about {wanted / 1e9:.1f} GB needed by {settings.workers} workers"
    if available >= wanted:
        return Check(name="memory", status="pass", detail=detail, node=node)
    status: Status = "fail" if available < loaded else "warn"
    remedy = "end other programs on this node, or lower workers by --set"
    return Check(name="memory", status=status, detail=detail, remedy=remedy, node=node)


def judge_estimates(facts: Mapping[str, Any], settings: PreflightSettings, node: str) -> list[Check]:
    """Compare what each trial needs, by part, with a node's smallest GPU or its memory for each worker.

    Args:
        facts: as in `judge_memory`.
        settings: what the run needs; without `requirements` there is nothing to compare.
        node: the node's address.
    """
    if settings.requirements is None:
        return []
    if settings.gpus and not facts["gpu_memory"]:
        return []  # the driver does not tell
    capacity = min(facts["gpu_memory"]) if settings.gpus else facts["memory"]["available"] / settings.workers
    return settings.requirements.memory(float(capacity), node)
