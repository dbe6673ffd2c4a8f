"""Tracking server, models and data: reachable now is cheaper than missing after the GPUs are held."""

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.preflight.check import Check, PreflightSettings, Status


def check_tracking(settings: PreflightSettings) -> list[Check]:
    """Whether MLflow's server answers, or its database can be written."""
    uri = settings.tracking_uri
    scheme = urlsplit(uri).scheme if uri else ""
    remedy = ""
    status: Status = "pass"
    if uri is None:
        detail = "the default: a database beside the campaigns"
    elif scheme in ("http", "https"):
        problem = _server_problem(uri, min(5, settings.timeout_s))
        detail = problem or f"{uri} answers"
        status = "fail" if problem else "pass"
        remedy = "start it (python -m cluster ui, or mlflow server), or correct --tracking-uri"
    elif scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///")).absolute()
        place = next(p for p in (path, *path.parents) if p.exists())
        writable = os.access(place, os.W_OK)
        detail = f"{uri} can be written" if writable else f"{place} cannot be written"
        status = "pass" if writable else "fail"
        remedy = "correct --tracking-uri, or the permission"
    elif scheme in ("", "file"):
        detail = f"{uri} is a folder, which MLflow no longer serves"
        status, remedy = "fail", "use sqlite:///FILE or http://HOST:PORT"
    else:
        detail, status, remedy = f"{uri} was not tried", "warn", "check it by hand"
    return [Check(name="tracking server", status=status, detail=detail, remedy="" if status == "pass" else remedy)]


def _server_problem(uri: str, timeout_s: float) -> str | None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout_s) as answer:
            body = answer.read(100).strip()
    except urllib.error.HTTPError as error:
        return f"{uri} answers {error.code}, not as an MLflow server does"
    except OSError as error:
        return f"{uri} does not answer: {getattr(error, 'reason', error)}"
    return None if body == b"OK" else f"{uri} is no MLflow server"


def node_request(settings: PreflightSettings) -> dict[str, Any]:
    """The part of a node's request that says which models and data to look for."""
    return {
        "models": list(dict.fromkeys(settings.models)),
        "data": settings.task_data,
        "dataset": settings.dataset,
    }


def judge_models(facts: dict[str, dict[str, Any]], node: str) -> list[Check]:
    """One check a model."""
    return [
        _judge("model", name, found, node, "name a folder that this node sees, or OWNER/MODEL")
        for name, found in facts.items()
    ]


def judge_data(facts: dict[str, Any], settings: PreflightSettings, node: str) -> Check:
    """The task's data."""
    name = settings.task_data or settings.dataset or settings.task
    return _judge("data", name, facts, node, "give a folder with train.jsonl and test.jsonl that this node sees")


def _judge(kind: str, name: str, found: dict[str, Any], node: str, remedy: str) -> Check:
    status: Status = "fail"
    if found["where"] in ("package", "folder"):
        complete = "in the package" if found["where"] == "package" else "the folder is complete"
        status, detail = ("fail", f"no {found['missing']}") if found["missing"] else ("pass", complete)
    elif found["where"] == "cache":
        status, detail = "pass", "in this node's cache"
    elif found["code"] == 200:
        status, detail = "warn", "not on this node yet: a run starts with its download"
        remedy = f"hf download {name}{' --repo-type dataset' if kind == 'data' else ''}"
    elif found["code"] in (401, 403):
        detail = f"the hub refuses access ({found['code']})"
        remedy = "accept its licence on the hub, check the name, and set HF_TOKEN on the nodes"
    elif found["code"] == 404:
        detail = "the hub does not have it"
    else:
        detail = f"not on this node, and the hub does not answer ({found['problem'] or found['code']})"
    return Check(
        name=kind, status=status, detail=f"{name}: {detail}", remedy="" if status == "pass" else remedy, node=node
    )
