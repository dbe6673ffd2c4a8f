"""A campaign's trials as one tidy dataframe: one row a trial, built on Ray Tune's own.

Tune knows the trials that ran here, by start; those that were reused, or whose last result came after Tune's last save,
are completed from their folders, in the same columns.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from bridge_common import event_log, files, trial_files
from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder
from tune_spaces.design.plan import Plan, PlannedTrial
from tune_spaces.design.toggles import all_toggles
from tune_spaces.records import campaign_folder

FORMATS = ("csv", "parquet", "json")
STATUSES = {trial_files.FINISHED: "finished", trial_files.FAILED: "failed", None: "unfinished"}
SETTINGS = ("source", "target", "task", "layout", "soft_position", "bridge", "pooling", "injection", "soft_tokens")


def results(campaign: Path, plan: Plan) -> pd.DataFrame:
    """One row a trial that was started or reused, in the plan's order.

    Columns: name, variant, phase, seed, fingerprint, status (finished, failed, unfinished), error, reused_from, folder
    and samples (paths), a column a toggle (on, off), settings that differ between trials or name the experiment, the
    metrics of the final evaluation, and Tune's own columns (`config/...`, trial_id, time_total_s and so on).

    Args:
        campaign: its folder.
        plan: its trials.
    """
    known = _tune_rows(campaign)
    differing = {name for trial in plan.trials.values() for name in plan.changes(trial)}
    rows = []
    for name, trial in plan.trials.items():
        folder = TrialFolder.of(campaign, name)
        if folder.begun:
            rows.append({**_own(trial, folder, differing), **known.get(name, {}), **_found(folder)})
    return pd.DataFrame(rows)


def _tune_rows(campaign: Path) -> dict[str, dict[str, Any]]:
    """Return Tune's row of each trial, from the last start that finished it, or else from the last start.

    Read from the JSON files that Tune's logger writes in each trial's folder: Tune's saved experiment state is a pickle
    that names classes of this package, so that a campaign could not be read after a class has moved.
    """
    rows: dict[str, dict[str, Any]] = {}
    for parameters in sorted((campaign / campaign_folder.TUNE).glob("*/*/params.json")):
        config = files.read_json(parameters)
        results = event_log.read_all(parameters.with_name("result.json"))
        last = {key: value for key, value in results[-1].items() if key != "config"} if results else {}
        row = {**last, **{f"config/{key}": value for key, value in config.items()}}
        name = str(config["name"])
        if row.get("final") is True or rows.get(name, {}).get("final") is not True:
            rows[name] = row
    return rows


def _own(trial: PlannedTrial, folder: TrialFolder, differing: set[str]) -> dict[str, Any]:
    spec = trial.spec.flat()
    toggled = {toggle.field for toggle in all_toggles()}
    shown = [name for name in spec if name in differing or name in SETTINGS]
    return {
        "name": trial.name,
        "variant": trial.variant,
        "phase": trial.phase,
        "seed": trial.seed,
        "fingerprint": trial.fingerprint,
        "status": STATUSES[folder.status],
        "error": (folder.error() or {}).get("error"),
        "reused_from": None,
        "folder": str(folder.path),
        "samples": None if folder.samples is None else str(folder.samples),
        **{toggle.key: toggle.position(spec[toggle.field]) for toggle in all_toggles() if toggle.field in spec},
        **{name: spec[name] for name in shown if name not in toggled and name != "seed"},
    }


def _found(folder: TrialFolder) -> dict[str, Any]:
    """What the result says; it wins over Tune's row."""
    found = folder.result()
    if found is None:
        return {}
    about = {key: found.get(key) for key in ("node_id", "seconds", "checkpoint", "reused_from")}
    return {**about, **found["metrics"]}


def export(frame: pd.DataFrame, path: Path, kind: str) -> Path:
    """Write a dataframe of results.

    Raises:
        UserError: for an unknown format.
    """
    if kind not in FORMATS:
        raise UserError(f"--format {kind}: use {', '.join(FORMATS)}")
    if kind == "csv":
        files.write_text(path, frame.to_csv(index=False))
    elif kind == "json":
        files.write_text(path, frame.to_json(orient="records", indent=2) + "\n")
    else:
        from io import BytesIO

        buffer = BytesIO()
        frame.to_parquet(buffer, index=False)
        files.write_bytes(path, buffer.getvalue())
    return path
