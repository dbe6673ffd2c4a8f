"""A campaign's folder, which is the truth: what was asked, planned, decided and found can all be read from it.

A trial is finished when its `result.json` is there, because that is written last; nothing else says so.
"""

import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_common import files
from mlflow_utils import names
from ray_bridge.config.spec import RunSpec
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.gate.evidence import BRIDGED, Outcome
from tune_spaces.gate.policy import Policy

CAMPAIGN, PLAN, GATE = "campaign.json", "plan.json", "gate.json"
STOP, LOCK, DRIVER = "stop", ".lock", "driver.json"
TUNE = "tune"
ERROR = "error.json"
_FINGERPRINTED = re.compile(r"-[0-9a-f]{8}$")
_OWN = frozenset({"train", names.SENT})


def trial_folder(campaign: Path, name: str) -> Path:
    """Where a trial's files are."""
    return Path(campaign) / names.TRIALS / name


def append_status(folder: Path, status: str) -> None:
    """Append a status to a trial's spool."""
    folder.mkdir(parents=True, exist_ok=True)
    files.append_jsonl(folder / names.EVENTS, {"kind": "status", "time": time.time(), "status": status})


def begin(campaign: Path, trial: PlannedTrial, run: RunSpec) -> Path:
    """Make a trial's folder with its `spec.json`, so that a reader knows what it is before anything has run."""
    folder = trial_folder(campaign, trial.name)
    files.write_json(
        folder / names.SPEC,
        {
            "variant": trial.variant,
            "phase": trial.phase,
            "fingerprint": trial.fingerprint,
            "seed": trial.seed,
            "purpose": trial.purpose,
            "spec": trial.spec.model_dump(),
            "run": run.model_dump(),
        },
    )
    return folder


def result(folder: Path) -> dict[str, Any] | None:
    """A trial's result, or None where it has not finished."""
    path = Path(folder) / names.RESULT
    return files.read_json(path) if path.is_file() else None


def outcome(folder: Path) -> Outcome | None:
    """How a finished trial ended, or None."""
    found = result(folder)
    return None if found is None else outcome_of(found["metrics"], folder, found.get("node_id"))


def outcome_of(metrics: dict[str, Any], folder: Path | str, node_id: str | None) -> Outcome:
    """An outcome from the metrics of a job."""
    n, correct = metrics.get(names.N), metrics.get(f"correct/{BRIDGED}")
    return Outcome(
        accuracy=float(metrics[names.accuracy(BRIDGED)]),
        correct=None if correct is None else int(correct),
        n=None if n is None else int(n),
        folder=str(folder),
        node_id=node_id,
    )


def finished(storage: Path) -> dict[str, list[Path]]:
    """Folders of finished trials in all campaigns under a storage, by the first 8 digits of the fingerprint."""
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(storage).glob(f"*/{names.TRIALS}/*/{names.RESULT}")):
        if _FINGERPRINTED.search(path.parent.name):
            found.setdefault(path.parent.name[-8:], []).append(path.parent)
    return found


def fingerprint_of(folder: Path) -> str | None:
    """The fingerprint that a trial's folder is about."""
    for name in (names.RESULT, names.SPEC):
        path = Path(folder) / name
        if path.is_file() and (digest := files.read_json(path).get("fingerprint")):
            return str(digest)
    return None


def source_of(trial: PlannedTrial, campaign: Path, known: dict[str, list[Path]]) -> Path | None:
    """The folder of a finished trial with the same fingerprint; this campaign's own comes first."""
    own = trial_folder(campaign, trial.name)
    if (own / names.RESULT).is_file():
        return own
    candidates = known.get(trial.fingerprint[:8], [])
    return next((folder for folder in candidates if fingerprint_of(folder) == trial.fingerprint), None)


def reuse(source: Path, campaign: Path, trial: PlannedTrial, run: RunSpec) -> Path:
    """Make a campaign's folder complete with the records of a trial that finished elsewhere; its result comes last.

    Checkpoints are not copied: `result.json` names the place where they are.
    """
    folder = begin(campaign, trial, run)
    for path in sorted(source.iterdir()):
        if path.name in _OWN or path.name in (names.SPEC, names.RESULT):
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
        else:
            shutil.copy2(path, folder / path.name)
    found = {**(result(source) or {}), "variant": trial.variant, "fingerprint": trial.fingerprint}
    found.setdefault("reused_from", str(source.resolve()))
    files.write_json(folder / names.RESULT, found)
    return folder


def take_finished(campaign: Path, policy: Policy, trials: Mapping[str, PlannedTrial], run: RunSpec) -> dict[str, Path]:
    """Walk on over trials that some campaign of this storage has finished, and copy their records here.

    Returns:
        The folder that each was taken from, by the trial's name.
    """
    taken: dict[str, Path] = {}
    known: dict[str, list[Path]] | None = None
    while (name := policy.next()) is not None:
        known = finished(Path(campaign).parent) if known is None else known
        source = source_of(trials[name], campaign, known)
        if source is None:
            break
        folder = trial_folder(campaign, name)
        if source != folder:
            reuse(source, campaign, trials[name], run)
            taken[name] = source
            known = None
        found = outcome(folder)
        assert found is not None
        policy.observe(name, found)
    return taken
