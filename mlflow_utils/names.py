"""Names of what is recorded in MLflow: the tags of runs, the files of the tracker, and valid names of metrics.

Three readers depend on them: the MLflow UI (which groups metrics by the part before `/` and shows `mlflow.*` tags in
places of their own), the data frames, and the reports. Names of metrics are in `bridge_common.metric_names`, since the
job that measures does not import this package.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from bridge_common import metric_names, trial_files

# Tags. The first ones are a run's identity, by which later processes find it.
KIND = "kind"  # "phase" (a parent run) or "trial" (a child)
CAMPAIGN = "campaign"
PHASE = "phase"
VARIANT = "variant"
FINGERPRINT = "fingerprint"
SEED = "seed"
CODE = "code"  # digests of the code that trained, several if it changed before a resume
GIT_COMMIT = trial_files.GIT_COMMIT
GIT_BRANCH = "git_branch"
GIT_DIRTY = trial_files.GIT_DIRTY
HOST = "host"
NODE_ID = "node_id"  # Ray's
GPU = "gpu"
RAY_JOB = "ray_job_id"
VERSION = "version."  # version.torch, version.ray, ...
CHECKPOINT = "checkpoint"
FOLDER = "folder"
CHANGED_PARAMS = "params_changed"  # new values of parameters, which MLflow does not let change
ERROR = "error"  # why a trial failed, in one line
ATTEMPTS = "attempts"  # when a trial's attempts began and ended, as `attempts_text` writes them
STOPPED_STEP = "stopped_step"  # of a trial that a sweep's scheduler ended
STOPPED_VALIDATION = "stopped_validation_accuracy"
DRIVER_SEEN = "driver_seen"  # seconds since 1970 at the driver's last sign of life
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
NOTE = "mlflow.note.content"  # the description of a run or an experiment, in Markdown
PRIMARY_METRIC = "mlflow.experiment.primaryMetric.name"  # what the UI's charts begin with
COLOUR = "mlflow.runColor"  # of a run in the UI's charts; without it a run's id decides, and runs look alike
EXPERIMENT_KIND = "mlflow.experimentKind"  # decides which page the UI opens

PACKAGES = ("torch", "transformers", "ray", "mlflow", "datasets", "ray-bridge")
JOBS_VERSIONS = ("python", "torch", "transformers")  # tags of a job's own events; in MLflow they are `version.NAME`

# Colours of variants in MLflow's charts, which tell neighbours apart, also for most who see few colours.
COLOURS = (
    *("#0b5c9e", "#d55e00", "#009e73", "#b5477f", "#8a6d00", "#3a9bdc", "#5b3a8e", "#7a7a7a", "#a3122d", "#2f6b2f"),
    *("#c98500", "#1c2b36"),
)

# Metrics that keep their name in MLflow; all others are named apart, so that a run opens on these.
HEADLINES = frozenset(
    {
        *map(metric_names.accuracy, metric_names.CONDITIONS),
        metric_names.accuracy_low("bridged"),
        metric_names.accuracy_high("bridged"),
        *(metric_names.GAIN, metric_names.INFORMATION, metric_names.N, metric_names.SECONDS, metric_names.GPU_HOURS),
        f"validation/{metric_names.accuracy('bridged')}",
        f"{metric_names.LOSS}total",
    }
)
SERIES, DETAIL = "series/", "detail/"

# Files in a campaign's folder.
DECLARATIONS = trial_files.DECLARATIONS
CAMPAIGN_SENT = "tracking.sent.json"
SENDER_LOCK = ".tracking.lock"

MOST_STATUSES = 200  # in a tag, which has at most 8000 characters

_ALLOWED = re.compile(r"[^\w\-. :/]", re.ASCII)


def metric_name(name: str) -> str:
    """Return the name as MLflow accepts it: `_` replaces other characters, and parts that are empty or only dots."""
    parts = _ALLOWED.sub("_", name)[:250].split("/")
    cleaned = "/".join(part if part.strip(".") else "_" for part in parts)
    return "_" + cleaned[2:] if cleaned.startswith("..") else cleaned


def mlflow_metric(name: str) -> str:
    """Return the name in MLflow of a recorded metric: `series/` or `detail/` precedes all but the `HEADLINES`."""
    prefix = "" if name in HEADLINES else SERIES if metric_names.is_series(name) else DETAIL
    return metric_name(prefix + name)


def recorded_metric(name: str) -> str:
    """Return the recorded name of a metric in MLflow. Runs of earlier versions have no prefixes."""
    return name.removeprefix(SERIES) if name.startswith(SERIES) else name.removeprefix(DETAIL)


def recorded_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Return a run's metrics under their recorded names; where an earlier version began the run, the newer value."""
    ordered = sorted(values.items(), key=lambda item: item[0].startswith((SERIES, DETAIL)))
    return {recorded_metric(name): value for name, value in ordered}


def cut(text: str, length: int) -> str:
    """Return a text of at most `length` characters, whose end says so if it was cut."""
    if len(text) <= length:
        return text
    note = f" [cut: {len(text)} characters]"
    return text[: length - len(note)] + note


def as_text(value: Any) -> str:
    """Return a parameter's or tag's value as text that `from_text` reads back."""
    return value if isinstance(value, str) else repr(value)


def from_text(text: str) -> Any:
    """Return a parameter's value as the number, bool or None that it was; anything else stays text."""
    plain: dict[str, Any] = {"True": True, "False": False, "None": None}
    if text in plain:
        return plain[text]
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        return value if math.isfinite(value) and repr(value) == text else text
    return text


def attempts_text(statuses: Iterable[tuple[str, float]]) -> str:
    """Return statuses with their times, in seconds since 1970, as a tag: the last ones, as far as a tag is long."""
    return json.dumps([[status, round(when, 3)] for status, when in statuses][-MOST_STATUSES:])


def read_attempts(text: str) -> list[tuple[str, float]]:
    """Return the statuses that `attempts_text` wrote; none of an empty text."""
    return [(status, when) for status, when in json.loads(text or "[]")]


def differing(specs: Iterable[Mapping[str, Any]], always: Iterable[str] = ()) -> list[str]:
    """Return the fields whose values differ between a campaign's specs, after those that are always shown.

    Args:
        specs: flat specs, one per variant.
        always: fields to return even if all variants agree, for example the toggles.
    """
    rows = list(specs)
    fields = list(dict.fromkeys(field for row in rows for field in row))
    shown = [field for field in always if field in fields]
    return shown + [field for field in fields if field not in shown and len({repr(row.get(field)) for row in rows}) > 1]
