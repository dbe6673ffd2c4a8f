"""Checks of models and data: a file that is missing now would be missed only after the GPUs are held."""

from typing import Any

from cluster.preflight.check import Check, Status
from cluster.preflight.settings import PreflightSettings


def node_request(settings: PreflightSettings) -> dict[str, Any]:
    """Return the part of a node's request that names models and data."""
    return {
        "models": list(dict.fromkeys(settings.models)),
        "data": settings.task_data,
        "dataset": settings.dataset,
    }


def judge_models(facts: dict[str, dict[str, Any]], node: str) -> list[Check]:
    """Return one check a model, from the facts that a node gathered."""
    remedy = "name a folder that this node sees, or OWNER/MODEL"
    return [_judge("model", name, place, node, remedy) for name, place in facts.items()]


def judge_data(facts: dict[str, Any], settings: PreflightSettings, node: str) -> Check:
    """Return the check of the task's data, from the facts that a node gathered."""
    name = settings.task_data or settings.dataset or settings.task
    return _judge("data", name, facts, node, "give a folder with train.jsonl and test.jsonl that this node sees")


def _judge(subject: str, name: str, place: dict[str, Any], node: str, remedy: str) -> Check:
    status: Status = "fail"
    if place["where"] in ("package", "folder"):
        complete = "in the package" if place["where"] == "package" else "the folder is complete"
        status, detail = ("fail", f"no {place['missing']}") if place["missing"] else ("pass", complete)
    elif place["where"] == "cache":
        status, detail = "pass", "in this node's cache"
    elif place["code"] == 200:
        status, detail = "warn", "not on this node yet: a run starts with its download"
        remedy = f"hf download {name}{' --repo-type dataset' if subject == 'data' else ''}"
    elif place["code"] in (401, 403):
        detail = f"the hub refuses access ({place['code']})"
        remedy = "accept its licence on the hub, check the name, and set HF_TOKEN on the nodes"
    elif place["code"] == 404:
        detail = "the hub does not have it"
    else:
        detail = f"not on this node, and the hub does not answer ({place['problem'] or place['code']})"
    return Check(
        name=subject, status=status, detail=f"{name}: {detail}", remedy="" if status == "pass" else remedy, node=node
    )
