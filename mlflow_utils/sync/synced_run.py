"""What a phase's and a trial's run have in common: found or made, described, given files and a status, all of it once.

What the store has is written to a state file after each confirmed step, so that any process can go on at any point.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from bridge_common import trial_files
from mlflow_utils.sync import points
from mlflow_utils.sync.sent_state import Sent
from mlflow_utils.sync.store import Store


class SyncedRun:
    """A run and what the store has of it. Subclasses say what it is and how it goes on."""

    def __init__(self, state: Path, store_key: str, name: str, identity: dict[str, str], started: float) -> None:
        self._state, self._key = state, store_key
        self.name, self._identity, self._started = name, identity, points.milliseconds(started)
        self.sent = Sent.load(state, store_key)

    def save(self) -> None:
        """Write down what the store has."""
        self.sent.save(self._state, self._key)

    def forget(self) -> None:
        """The store lost the run: begin anew."""
        self.sent = Sent()
        self.save()

    def run(self, store: Store, params: dict[str, Any], tags: dict[str, Any]) -> str:
        """Id of the run, which is found by its identity or made, and described once and whenever that changed."""
        sent = self.sent
        if sent.run_id is None:
            found = store.find(self._identity)
            if found:
                self.adopt(store, found[0])
                sent.run_id = found[0]
            else:
                again, sent.asked = sent.asked, True
                self.save()
                sent.run_id = store.create(self.name, self._identity, self._started)
                sent.asked, sent.status = again, trial_files.RUNNING
            sent.experiment_id = store.experiment()
            self.save()
        told = digest(params, tags)
        if sent.described != told:
            store.describe(sent.run_id, params, tags)
            sent.described = told
            self.save()
        return sent.run_id

    def adopt(self, store: Store, run_id: str) -> None:
        """Called before a run of the store is taken over that this folder knew nothing of."""

    def upload(self, store: Store, root: Path, names: list[str]) -> None:
        """Send files that are new or changed since they were sent; each keeps its folder relative to `root`."""
        for name in names:
            path = (root / name).resolve()
            if not path.exists():
                continue
            facts = path.stat()
            seen = [facts.st_size, facts.st_mtime_ns]
            if self.sent.files.get(name) == seen and not path.is_dir():
                continue
            relative = path.relative_to(root.resolve()) if path.is_relative_to(root.resolve()) else Path(path.name)
            folder = None if str(relative.parent) == "." else relative.parent.as_posix()
            store.upload(str(self.sent.run_id), path, folder)
            self.sent.files[name] = seen
            self.save()

    def set_status(self, store: Store, status: str, ended: float | None) -> None:
        """Bring the run to a status; a final one also clears away runs that an unanswered request left behind."""
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
    """Short hash of a run's description, to know whether the store was told it."""
    return hashlib.sha256(json.dumps([params, tags], sort_keys=True, default=repr).encode()).hexdigest()[:16]
