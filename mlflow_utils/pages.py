"""Addresses of MLflow's pages of a campaign, from its folder alone, so that they are known while the server is down.

MLflow is not imported here. The routes are those of the web client of MLflow 3.17.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from bridge_common.errors import UserError
from bridge_common.paths import plain
from mlflow_utils import declarations, names
from mlflow_utils.experiment_view import TRAINING, runs_url
from mlflow_utils.server import HOST, PORT
from mlflow_utils.sync import sent_state
from mlflow_utils.sync.sent_state import SentState
from mlflow_utils.tracking_uri import without_login


def compare_url(base: str, experiments: Sequence[str], runs: Sequence[str]) -> str:
    """Return the address of the page that compares runs side by side.

    Args:
        base: address of the server.
        experiments: ids of the runs' experiments.
        runs: ids of the runs.
    """
    run_ids, experiment_ids = (
        quote(json.dumps(list(ids), separators=(",", ":")), safe="") for ids in (runs, experiments)
    )
    address = f"{base.rstrip('/')}/#/compare-runs?runs={run_ids}&experiments={experiment_ids}"
    return f"{address}&{TRAINING}"


def phase_url(folder: Path, tracking_uri: str, phase: str | None = None, base: str | None = None) -> str:
    """Return the address of the page that compares a campaign's trials.

    Args:
        folder: the campaign's folder.
        tracking_uri: the store that the campaign was sent to.
        phase: compare the trials of this phase only; by default those of all phases.
        base: address of the server. By default that of the store, or of `python -m cluster ui` if it is a database.

    Raises:
        UserError: fewer than two of the trials are in the store.
    """
    declared = declarations.load(folder)
    if phase is not None and declared.phases and phase not in declared.phases:
        raise UserError(f"{folder.name} has no phase {plain(phase)}, but {', '.join(declared.phases)}")
    trials = [trial for trial in declared.trials.values() if phase in (None, trial.phase)]
    store = sent_state.store_key(tracking_uri)
    sent = [SentState.load(trial.folder.sent_file, f"{store}/{trial.phase}") for trial in trials]
    in_store = [entry for entry in sent if entry.run_id and entry.experiment_id]
    if len(in_store) < 2:
        of = f"{phase} of {folder.name}" if phase else folder.name
        raise UserError(
            f"{of} has {len(in_store)} of {len(trials)} trials in MLflow; two are needed to "
            "compare: `python -m cluster report` sends what is missing"
        )
    experiments = list(dict.fromkeys(str(entry.experiment_id) for entry in in_store))
    return compare_url(_base(tracking_uri, base), experiments, [str(entry.run_id) for entry in in_store])


def campaign_url(folder: Path, tracking_uri: str, base: str | None = None, *, charts: bool = False) -> str | None:
    """Return the address of the page of a campaign's runs; None while the store has no run of it.

    Args:
        folder: the campaign's folder.
        tracking_uri: the store that the campaign is sent to.
        base: address of the server, as for `phase_url`.
        charts: open the charts of the runs instead of their table.
    """
    store = sent_state.store_key(tracking_uri)
    for phase in declarations.load(folder, undeclared=False).phases:
        sent = SentState.load(folder / names.CAMPAIGN_SENT, f"{store}/{phase}")
        if sent.experiment_id is not None:
            return runs_url(_base(tracking_uri, base), sent.experiment_id, charts=charts)
    return None


def run_url(folder: Path, tracking_uri: str, phase: str, artifact: str | None = None) -> str | None:
    """Return the address, within the server's pages, of a phase's run or of one of its artifacts.

    Args:
        folder: the campaign's folder.
        tracking_uri: the store that the campaign is sent to.
        phase: name of the phase.
        artifact: path of the artifact, as in the campaign's folder.

    Returns:
        None while the store has no such run.
    """
    sent = SentState.load(folder / names.CAMPAIGN_SENT, f"{sent_state.store_key(tracking_uri)}/{phase}")
    if sent.run_id is None:
        return None
    page = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{sent.experiment_id}/runs/{sent.run_id}{page}?{TRAINING}"


def _base(tracking_uri: str, base: str | None) -> str:
    return without_login(base or (tracking_uri if tracking_uri.startswith("http") else f"http://{HOST}:{PORT}"))
