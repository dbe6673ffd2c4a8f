"""Reuse finished trials of any campaign in the same storage."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from bridge_common import trial_files
from bridge_common.trial_folder import TrialFolder
from ray_bridge import RunSpec
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.gate.policy import Policy
from tune_spaces.records.campaign_folder import begin, outcome

_FINGERPRINTED = re.compile(r"-[0-9a-f]{8}$")
_OWN = frozenset({"train", trial_files.SENT})


def finished(storage: Path) -> dict[str, list[TrialFolder]]:
    """Folders of finished trials in all campaigns under a storage, by the first 8 digits of the fingerprint."""
    found: dict[str, list[TrialFolder]] = {}
    for trial in TrialFolder.finished_under(storage):
        if _FINGERPRINTED.search(trial.name):
            found.setdefault(trial.name[-8:], []).append(trial)
    return found


def source_of(trial: PlannedTrial, campaign: Path, known: dict[str, list[TrialFolder]]) -> TrialFolder | None:
    """The folder of a finished trial with the same fingerprint; this campaign's own comes first."""
    own = TrialFolder.of(campaign, trial.name)
    if own.finished:
        return own
    candidates = known.get(trial.fingerprint[:8], [])
    return next((folder for folder in candidates if folder.fingerprint() == trial.fingerprint), None)


def reuse(source: TrialFolder, campaign: Path, trial: PlannedTrial, run: RunSpec) -> TrialFolder:
    """Make a campaign's folder complete with the records of a trial that finished elsewhere; its result comes last.

    Checkpoints are not copied: `result.json` names the place where they are.
    """
    folder = begin(campaign, trial, run)
    for path in sorted(source.path.iterdir()):
        if path.name in _OWN or path.name in (trial_files.SPEC, trial_files.RESULT):
            continue
        if path.is_dir():
            shutil.copytree(path, folder.path / path.name, dirs_exist_ok=True)
        else:
            shutil.copy2(path, folder.path / path.name)
    record = {**(source.result() or {}), "variant": trial.variant, "fingerprint": trial.fingerprint}
    record.setdefault("reused_from", str(source.path.resolve()))
    folder.write_result(record)
    return folder


def take_finished(
    campaign: Path, policy: Policy, trials: Mapping[str, PlannedTrial], run: RunSpec
) -> dict[str, TrialFolder]:
    """Walk on over trials that some campaign of this storage has finished, and copy their records here.

    Returns:
        The folder that each was taken from, by the trial's name.
    """
    taken: dict[str, TrialFolder] = {}
    known: dict[str, list[TrialFolder]] | None = None
    while (name := policy.next()) is not None:
        known = finished(Path(campaign).parent) if known is None else known
        source = source_of(trials[name], campaign, known)
        if source is None:
            break
        folder = TrialFolder.of(campaign, name)
        if source != folder:
            reuse(source, campaign, trials[name], run)
            taken[name] = source
            known = None
        found = outcome(folder)
        assert found is not None
        policy.observe(name, found)
    return taken
