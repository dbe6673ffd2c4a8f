"""What the runs of phases and trials have in common: create the run, then sync its params, tags, artifacts and status.

Every method is idempotent: what the store has confirmed is noted in a state file, and only what is missing is sent.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from bridge_common import trial_files
from mlflow_utils.sync import points
from mlflow_utils.sync.sent_state import SentState, file_version
from mlflow_utils.sync.store import Store


class SyncedRun:
    """An MLflow run and what its store has of it. `SyncedPhase` and `SyncedTrial` decide what to send, and when."""

    def __init__(self, state: Path, store_key: str, name: str, identity: dict[str, str], started: float) -> None:
        """Read the state file; nothing is sent.

        Args:
            state: the state file.
            store_key: key of the store's entry in the state file.
            name: name of the run.
            identity: the tags that identify the run in its experiment.
            started: start of the run, in seconds since 1970.
        """
        self._state, self._key = state, store_key
        self.name, self._identity, self._started = name, identity, points.milliseconds(started)
        self.sent = SentState.load(state, store_key)

    def save(self) -> None:
        """Write what the store has to the state file."""
        self.sent.save(self._state, self._key)

    def reset(self) -> None:
        """Start over with a new run, because the store lost this one."""
        self.sent = SentState()
        self.save()

    def get_or_create(self, store: Store, params: dict[str, Any], tags: dict[str, Any]) -> str:
        """Return the run's id. Find or create the run first if needed, and send params and tags if they changed."""
        sent = self.sent
        if sent.run_id is None:
            existing = store.find(self._identity)
            if existing:
                self.load_existing(store, existing[0])
                sent.run_id = existing[0]
            else:
                unanswered, sent.asked = sent.asked, True
                self.save()
                sent.run_id = store.create(self.name, self._identity, self._started)
                sent.asked, sent.status = unanswered, trial_files.RUNNING
            sent.experiment_id = store.experiment()
            self.save()
        description = digest(params, tags)
        if sent.described != description:
            store.describe(sent.run_id, params, tags)
            sent.described = description
            self.save()
        return sent.run_id

    def load_existing(self, store: Store, run_id: str) -> None:
        """Prepare to continue a run that the store has and the state file does not know; called by `get_or_create`."""

    def upload(self, store: Store, root: Path, names: list[str]) -> None:
        """Send files that are new or have changed; in the run, each keeps its path relative to `root`.

        Args:
            store: the MLflow store.
            root: the folder that the names are relative to.
            names: files, or folders, which are sent every time; skipped is what does not exist, or lies outside of
                `root`, as a record that somebody else has written may say.
        """
        root = root.resolve()
        for name in names:
            try:
                path = (root / name).resolve()
            except (RuntimeError, OSError):  # links that lead to one another
                continue
            if not ((path.is_file() or path.is_dir()) and path.is_relative_to(root)):  # a pipe would be read for ever
                continue
            version = file_version(path)  # taken before the upload: a later change has to be sent again
            if self.sent.files.get(name) == version and not path.is_dir():
                continue
            relative = path.relative_to(root)
            folder = None if str(relative.parent) == "." else relative.parent.as_posix()
            store.upload(str(self.sent.run_id), path, folder)
            self.sent.files[name] = version
            self.save()

    def set_status(self, store: Store, status: str, ended: float | None) -> None:
        """Set the run's status if it changed.

        A final status also removes empty runs that unanswered requests to create this run may have left in the store.

        Args:
            store: the MLflow store.
            status: RUNNING, FINISHED, FAILED or KILLED.
            ended: end of the run, in seconds since 1970; the time of the request if None.
        """
        if status in trial_files.FINAL and self.sent.asked:
            for other in store.find(self._identity):
                if other != self.sent.run_id:
                    store.remove_empty(other)
            self.sent.asked = False
        if status != self.sent.status:
            store.set_status(str(self.sent.run_id), status, None if ended is None else points.milliseconds(ended))
            self.sent.status = status
        self.save()


def digest(params: dict[str, Any], tags: dict[str, Any]) -> str:
    """Return a short hash of a run's params and tags, by which changes since the last request are seen."""
    return hashlib.sha256(json.dumps([params, tags], sort_keys=True, default=repr).encode()).hexdigest()[:16]
