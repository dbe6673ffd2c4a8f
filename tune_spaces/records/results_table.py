"""The trials of a campaign as one tidy table, read from their folders.

There is one builder, `trial_table`; `Campaign.results()`, the command `results` and the appendix all use it.
`mlflow_utils.dataframes` shows the same trials as MLflow has them: it names a trial's variant, phase, seed, fingerprint
and folder as here, and takes metrics under their recorded names from the same folders.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from bridge_common import files, trial_files
from bridge_common.errors import UserError, reason_of
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, import_plugins
from tune_spaces.design.plan import Plan
from tune_spaces.design.toggles import all_toggles
from tune_spaces.records.campaign_folder import CampaignFolder
from tune_spaces.records.csv_text import csv_text

FORMATS = ("csv", "parquet", "json")
STATUSES = {trial_files.FINISHED: "finished", trial_files.FAILED: "failed", None: "unfinished"}
STOPPED_EARLY = "stopped early"
SETTINGS = ("source", "target", "task", "layout", "soft_position", "bridge", "pooling", "injection", "soft_tokens")
"""Fields of the spec that `results` shows even if all trials agree in them."""
PLUGIN_FIELDS = ("plugins", "extra")
"""Fields that the record of a spec without plug-ins does not have."""


def trial_table(
    trials: Iterable[TrialFolder],
    *,
    fields: Collection[str] | None = None,
    more: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> pd.DataFrame:
    """Build a table with one row per trial.

    Its columns are, in this order: name, variant, phase, seed, fingerprint and code (the digest of the code that
    trained, several if it changed between a stop and a resume); status (finished, failed, stopped early,
    unfinished), error and reused_from; folder, and samples, the path of `samples.jsonl` or None until the trial has
    finished; a column per toggle under its key (on, off); fields of the spec; the columns in `more`; node_id, gpu,
    seconds and checkpoint; the metrics of the final evaluation, and its seconds a question (`cost/seconds/...`).

    Args:
        trials: folders of trials that have begun.
        fields: fields of the spec to show; all by default.
        more: further columns by the trial's name. If the trial's result has a column of the same name, that one counts.

    Raises:
        UserError: if a trial's plug-in cannot be imported, or its record is damaged.
    """
    records = {trial: trial.spec() or {} for trial in trials}
    for record in records.values():
        import_plugins(record["spec"])  # before any row, since plug-ins may register toggles
    return pd.DataFrame([_whole_row(trial, record, fields, more) for trial, record in records.items()])


def results(campaign: CampaignFolder, plan: Plan, more: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Build the table of the planned trials that were started or reused, in the plan's order.

    Of the spec it shows the fields that differ between trials, and `SETTINGS`.

    Args:
        campaign: the campaign's folder.
        plan: its trials.
        more: further columns by the trial's name, such as Ray Tune's.
    """
    differing = {name for trial in plan.trials.values() for name in plan.changes(trial)}
    hidden = {"seed", *(toggle.field for toggle in all_toggles())}  # each has a column of its own
    begun = [trial for name in plan.trials if (trial := campaign.trial(name)).begun]
    return trial_table(begun, fields={*differing, *SETTINGS} - hidden, more=more)


def _whole_row(
    trial: TrialFolder,
    record: dict[str, Any],
    fields: Collection[str] | None,
    more: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    try:
        return _row(trial, record, fields, more.get(trial.name, {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{trial.spec_file} or its {trial.result_file.name} is damaged ({reason_of(error)}): remove it and resume "
            "its campaign"
        ) from error


def _row(
    trial: TrialFolder, record: dict[str, Any], fields: Collection[str] | None, more: Mapping[str, Any]
) -> dict[str, Any]:
    result, spec = trial.result(), _complete(record["spec"])
    row = {
        "name": trial.name,
        **{name: record.get(name) for name in ("variant", "phase", "seed", "fingerprint")},
        "code": "+".join(record.get("code", ())) or None,
        "status": STOPPED_EARLY if trial.stopped_early else STATUSES[trial.status],
        "error": (trial.error() or {}).get("error"),
        "reused_from": None,
        "folder": str(trial.path),
        "samples": str(trial.samples) if result is not None and trial.samples else None,
        **{toggle.key: toggle.position(spec[toggle.field]) for toggle in all_toggles() if toggle.field in spec},
        **{name: value for name, value in spec.items() if name != "seed" and (fields is None or name in fields)},
        **more,
    }
    return row if result is None else {**row, **_measured(result)}


def _complete(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded spec with the defaults of fields that were added after it was written."""
    defaults = {name: field.get_default() for name, field in JobSpec.model_fields.items() if name not in PLUGIN_FIELDS}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in {**defaults, **spec}.items()}


def _measured(result: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: result.get(name) for name in ("node_id", "gpu", "seconds", "checkpoint", "reused_from")}
    return {**facts, **result["metrics"], **result.get("timings", {})}


def export(table: pd.DataFrame, path: Path, kind: str) -> Path:
    """Write a table to a file and return its path.

    Args:
        table: what to write.
        path: the file, which is replaced.
        kind: csv (see `csv_text`), parquet or json.

    Raises:
        UserError: for another format.
    """
    if kind not in FORMATS:
        raise UserError(f"--format {kind}: use {', '.join(FORMATS)}")
    if kind == "csv":
        files.write_text(path, csv_text(table))
    elif kind == "json":
        files.write_text(path, table.to_json(orient="records", indent=2) + "\n")
    else:
        from io import BytesIO

        buffer = BytesIO()
        table.to_parquet(buffer, index=False)
        files.write_bytes(path, buffer.getvalue())
    return path
