"""Which campaign of a storage runs a trial: two campaigns that need the same measurement run it once.

A driver that runs a trial holds a claim, `STORAGE/.claims/FINGERPRINT.json`, whose modification time is a heartbeat.
Another campaign that needs a trial of this fingerprint waits for its result. A claim without a heartbeat, or of a dead
process of this host, is void.
"""

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bridge_common import files
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.records.campaign_folder import CampaignFolder

CLAIMS, LOCK = ".claims", ".lock"
DEAD_AFTER_S = 60.0  # without a heartbeat; drivers renew theirs every few seconds
LOCK_WITHIN_S = 30.0


@dataclass(frozen=True)
class Claims:
    """The claims of one campaign's driver."""

    campaign: CampaignFolder

    def take(self, trial: PlannedTrial) -> str | None:
        """Claim a trial before it runs.

        Returns:
            None if it is claimed, else the campaign that runs a trial of its fingerprint.
        """
        from bridge_common.locks import file_lock

        (self.campaign.storage / CLAIMS).mkdir(parents=True, exist_ok=True)
        with file_lock(self.campaign.storage / CLAIMS / LOCK, timeout=LOCK_WITHIN_S):
            if other := self.elsewhere(trial):
                return other
            owner = {"campaign": self.campaign.name, "host": socket.gethostname(), "pid": os.getpid()}
            files.write_json(self._file(trial), {**owner, "trial": trial.name, "since": time.time()})
        return None

    def elsewhere(self, trial: PlannedTrial) -> str | None:
        """Return the campaign of this storage that runs a trial of the same fingerprint, None if no other does."""
        claim = self._file(trial)
        try:
            owner, beat = files.read_json(claim), claim.stat().st_mtime
        except (OSError, ValueError):  # there is none, or it is torn
            return None
        ours, here = owner["campaign"] == self.campaign.name, owner["host"] == socket.gethostname()
        dead = time.time() - beat > DEAD_AFTER_S or (here and not psutil.pid_exists(owner["pid"]))
        return None if ours or dead else str(owner["campaign"])

    def renew(self, trials: Iterable[PlannedTrial]) -> None:
        """Renew the heartbeat of the claims on trials that run."""
        for trial in trials:
            with suppress(FileNotFoundError):
                os.utime(self._file(trial))

    def release(self, trial: PlannedTrial) -> None:
        """Give up the claim on a trial that has ended."""
        self._file(trial).unlink(missing_ok=True)

    def _file(self, trial: PlannedTrial) -> Path:
        return self.campaign.storage / CLAIMS / f"{trial.fingerprint}.json"
