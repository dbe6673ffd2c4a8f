"""Sync the parent run of a phase: params, tags, the campaign's files, the phase's artifacts and its status."""

import time
from pathlib import Path

from bridge_common import trial_files
from mlflow_utils import names
from mlflow_utils.declarations import Phase
from mlflow_utils.sync.store import Store
from mlflow_utils.sync.synced_run import SyncedRun

BEAT_EVERY = 30.0  # seconds between signs of life of the driver


class SyncedPhase(SyncedRun):
    """A phase's parent run."""

    def __init__(self, campaign: Path, store_key: str, phase: Phase) -> None:
        """Read the state file.

        Args:
            campaign: the campaign's folder.
            store_key: key of the store.
            phase: the declared phase.
        """
        super().__init__(
            state=campaign / names.CAMPAIGN_SENT,
            store_key=f"{store_key}/{phase.name}",
            name=phase.name,
            identity={names.KIND: "phase", names.PHASE: phase.name},
            started=phase.started,
        )
        self._campaign = campaign
        self._beat_after = 0.0

    def sync(self, store: Store, phase: Phase, *, closing: bool, driven: bool) -> str:
        """Send what the store lacks of the phase and return the id of its run.

        Args:
            store: the MLflow store.
            phase: the phase as it is declared now.
            closing: also send a final status, which is due once all the phase's trials are synced.
            driven: whether a driver runs the phase. Without one, a run that has ended is not RUNNING again, as it would
                be if the declaration of its end was lost.
        """
        run_id = self.get_or_create(store, phase.params, {**phase.tags, names.FOLDER: str(self._campaign.resolve())})
        self.upload(store, self._campaign, [*trial_files.CAMPAIGN_FILES, *map(str, phase.artifacts)])
        final = phase.status in trial_files.FINAL
        reopens = not final and self.sent.status in trial_files.FINAL
        if phase.status != self.sent.status and (closing or not final) and (driven or not reopens):
            self.set_status(store, phase.status, phase.ended)
        return run_id

    def beat(self, store: Store) -> None:
        """Record that the driver is alive, if the last time was more than `BEAT_EVERY` seconds ago."""
        if time.monotonic() >= self._beat_after:
            store.describe(str(self.sent.run_id), {}, {names.DRIVER_SEEN: f"{time.time():.0f}"})
            self._beat_after = time.monotonic() + BEAT_EVERY
