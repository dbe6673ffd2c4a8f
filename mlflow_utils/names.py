"""Every name under which something is recorded: experiments, runs' tags, parameters, metrics and files.

They stand in one place because three readers depend on them: the MLflow UI (which groups metrics by the part before `/`
and shows `mlflow.*` tags itself), the data frames, and the reports. The job that measures reports the same names, as
plain strings: it does not import this package.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

# Tags. Those of a run's identity come first: a run is found again by them.
KIND = "kind"  # "phase" (a parent run) or "trial" (a child)
CAMPAIGN = "campaign"
PHASE = "phase"
VARIANT = "variant"
FINGERPRINT = "fingerprint"
SEED = "seed"
GIT_COMMIT = "git_commit"
GIT_BRANCH = "git_branch"
GIT_DIRTY = "git_dirty"
HOST = "host"
NODE = "node"
NODE_ID = "node_id"  # Ray's
GPU = "gpu"
RAY_JOB = "ray_job_id"
VERSION = "version."  # version.torch, version.ray, ...
CHECKPOINT = "checkpoint"
FOLDER = "folder"
CHANGED_PARAMS = "params_changed"  # MLflow parameters cannot change; what a resumed run was asked instead stands here
PARENT = "mlflow.parentRunId"
VIEW = "mlflow.experimentKind"  # which of its pages the UI opens
SOURCE_COMMIT = "mlflow.source.git.commit"
SOURCE_BRANCH = "mlflow.source.git.branch"

PACKAGES = ("torch", "transformers", "ray", "mlflow", "datasets", "ray-bridge")

DECLARATIONS = "tracking.jsonl"
CAMPAIGN_SENT = "tracking.sent.json"
SENDER_LOCK = ".tracking.lock"


_ALLOWED = re.compile(r"[^\w\-. :/]", re.ASCII)


def metric_name(name: str) -> str:
    """The name as MLflow accepts it: other signs become `_`, and so do parts that are empty or only dots."""
    parts = _ALLOWED.sub("_", name)[:250].split("/")
    cleaned = "/".join(part if part.strip(".") else "_" for part in parts)
    return "_" + cleaned[2:] if cleaned.startswith("..") else cleaned


def as_text(value: Any) -> str:
    """A parameter's or tag's value as text that `from_text` reads back."""
    return value if isinstance(value, str) else repr(value)


def from_text(text: str) -> Any:
    """A parameter's value as the number, bool or None it was; anything else stays text."""
    plain: dict[str, Any] = {"True": True, "False": False, "None": None}
    if text in plain:
        return plain[text]
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) and repr(value) == text else text
    return text


def differing(specs: Iterable[Mapping[str, Any]], always: Iterable[str] = ()) -> list[str]:
    """Fields that tell the specs of a campaign apart, after those always shown (the toggles), in the specs' order.

    Args:
        specs: flat specs, one a variant.
        always: fields to show even where all variants agree.
    """
    rows = list(specs)
    fields = list(dict.fromkeys(field for row in rows for field in row))
    shown = [field for field in always if field in fields]
    return shown + [field for field in fields if field not in shown and len({repr(row.get(field)) for row in rows}) > 1]
