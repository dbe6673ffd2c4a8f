"""Reuse finished trials of any campaign in the same storage."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from bridge_common import files, trial_files
from ray_bridge import RunSpec
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.gate.policy import Policy
from tune_spaces.records.campaign_folder import begin, outcome, result, trial_folder

_FINGERPRINTED = re.compile(r"-[0-9a-f]{8}$")
_OWN = frozenset({"train", trial_files.SENT})


def finished(storage: Path) -> dict[str, list[Path]]:
    """Folders of finished trials in all campaigns under a storage, by the first 8 digits of the fingerprint."""
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(storage).glob(f"*/{trial_files.TRIALS}/*/{trial_files.RESULT}")):
        if _FINGERPRINTED.search(path.parent.name):
            found.setdefault(path.parent.name[-8:], []).append(path.parent)
    return found


def fingerprint_of(folder: Path) -> str | None:
    """The fingerprint that a trial's folder is about."""
    for name in (trial_files.RESULT, trial_files.SPEC):
        path = Path(folder) / name
        if path.is_file() and (digest := files.read_json(path).get("fingerprint")):
            return str(digest)
    return None


def source_of(trial: PlannedTrial, campaign: Path, known: dict[str, list[Path]]) -> Path | None:
    """The folder of a finished trial with the same fingerprint; this campaign's own comes first."""
    own = trial_folder(campaign, trial.name)
    if (own / trial_files.RESULT).is_file():
        return own
    candidates = known.get(trial.fingerprint[:8], [])
    return next((folder for folder in candidates if fingerprint_of(folder) == trial.fingerprint), None)


def reuse(source: Path, campaign: Path, trial: PlannedTrial, run: RunSpec) -> Path:
    """Make a campaign's folder complete with the records of a trial that finished elsewhere; its result comes last.

    Checkpoints are not copied: `result.json` names the place where they are.
    """
    folder = begin(campaign, trial, run)
    for path in sorted(source.iterdir()):
        if path.name in _OWN or path.name in (trial_files.SPEC, trial_files.RESULT):
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
        else:
            shutil.copy2(path, folder / path.name)
    found = {**(result(source) or {}), "variant": trial.variant, "fingerprint": trial.fingerprint}
    found.setdefault("reused_from", str(source.resolve()))
    files.write_json(folder / trial_files.RESULT, found)
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
