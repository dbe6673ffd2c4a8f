"""Take the results of trials that finished earlier, in this campaign or in another of the same storage."""

import re
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from bridge_common import trial_files
from bridge_common.trial_folder import TrialFolder
from ray_bridge import RunSpec
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy
from tune_spaces.records.campaign_folder import CampaignFolder

Finished = Mapping[str, list[TrialFolder]]
"""Folders of finished trials by the first 8 digits of their fingerprint."""

RESCAN_S = 5.0  # for so long the finished trials of a storage are remembered
_FINGERPRINTED = re.compile(r"-[0-9a-f]{8}$")
_RECORDS = {trial_files.STOP, trial_files.SENT, trial_files.SPEC, trial_files.RESULT}
_NOT_COPIED = frozenset({"train", trial_files.HEARTBEATS, *_RECORDS})


def finished_trials(storage: Path) -> dict[str, list[TrialFolder]]:
    """Find the finished trials of all campaigns in a storage, by the first 8 digits of their fingerprint."""
    trials: dict[str, list[TrialFolder]] = {}
    for trial in TrialFolder.finished_under(storage):
        if _FINGERPRINTED.search(trial.name):
            trials.setdefault(trial.name[-8:], []).append(trial)
    return trials


class FinishedInStorage:
    """The finished trials of a storage, remembered for some seconds: a sweep asks before each of its trials."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self._known: Finished = {}
        self._scan_after = 0.0

    def forget(self) -> None:
        """Read the disk at the next question."""
        self._scan_after = 0.0

    def current(self) -> Finished:
        """Return the finished trials, by the first 8 digits of their fingerprint."""
        began = time.monotonic()
        if began >= self._scan_after:
            self._known = finished_trials(self.storage)
            now = time.monotonic()
            self._scan_after = now + max(RESCAN_S, 20 * (now - began))
        return self._known


def source_of(trial: PlannedTrial, campaign: CampaignFolder, finished: Finished) -> TrialFolder | None:
    """Return the folder whose result a planned trial takes: this campaign's own, or another with its fingerprint.

    Returns:
        The folder, or None if no trial of that fingerprint has finished.
    """
    own = campaign.trial(trial.name)
    if own.finished:
        return own
    twin = None if trial.same_as is None else campaign.trial(trial.same_as)
    if twin is not None and twin.finished and twin.fingerprint() == trial.fingerprint:
        return twin
    candidates = finished.get(trial.fingerprint[:8], [])
    return next((f for f in candidates if f.fingerprint() == trial.fingerprint and f.finished), None)


def copy_records(source: TrialFolder, campaign: CampaignFolder, trial: PlannedTrial, run: RunSpec) -> TrialFolder:
    """Copy the records of a trial that finished elsewhere into a campaign, its result last.

    Checkpoints are not copied: `result.json` names the folder in which they are.
    """
    folder = campaign.begin(trial, run, list((source.spec() or {}).get("code", ())))
    for path in sorted(source.path.iterdir()):
        if path.name in _NOT_COPIED:
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
    campaign: CampaignFolder,
    policy: Policy,
    trials: Mapping[str, PlannedTrial],
    run: RunSpec,
    *,
    storage: FinishedInStorage | None = None,
    busy: Collection[str] = (),
) -> dict[str, TrialFolder]:
    """Observe every next trial of the policy that has finished somewhere in the storage, and copy its records here.

    Args:
        campaign: whose trials these are.
        policy: asked for the next trial until that one has not finished anywhere.
        trials: planned trials by name.
        run: recorded with a trial that is copied.
        storage: finished trials of the storage; read from the disk by default.
        busy: names of trials that are passed over, since they run or wait for a running one's result.

    Returns:
        The folder from which each trial was copied, by the trial's name.
    """
    copied: dict[str, TrialFolder] = {}
    storage = storage or FinishedInStorage(campaign.storage)
    while (name := next((name for name in policy.ready() if name not in busy), None)) is not None:
        source = source_of(trials[name], campaign, storage.current())
        if source is None:
            break
        folder = campaign.trial(name)
        if source != folder:
            copy_records(source, campaign, trials[name], run)
            copied[name] = source
        outcome = Outcome.of_trial(folder)
        assert outcome is not None
        policy.observe(name, outcome)
    return copied
