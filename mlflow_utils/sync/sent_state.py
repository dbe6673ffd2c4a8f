"""The state file of a trial or phase: what each MLflow store already has of it, so that any process can resume sending.

The file is written only after the store has confirmed a request. After an interruption, the last request is therefore
sent again; MLflow keeps its points once (see `points`).
"""

import hashlib
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridge_common import files
from bridge_common.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class SentState:
    """What one MLflow store already has of one trial or phase.

    Attributes:
        run_id: the MLflow run, or None if there is none yet.
        experiment_id: the run's experiment.
        position: number of bytes of the event log that were sent.
        status: the run's status in the store.
        implied: whether the status was derived from the end of the phase, because the trial reported no final status.
        described: hash of the parameters and tags that were sent.
        asked: whether a request to create the run went unanswered, so that the store may have a second, empty run.
        files: the artifacts that were sent, each with its `file_version`.
        refused: number of points that MLflow refused for good.
    """

    run_id: str | None = None
    experiment_id: str | None = None
    position: int = 0
    status: str | None = None
    implied: bool = False
    described: str | None = None
    asked: bool = False
    files: dict[str, list[int]] = field(default_factory=dict)
    refused: int = 0

    @classmethod
    def load(cls, path: Path, store: str) -> "SentState":
        """Read a store's entry from the state file; an empty state if there is none, or the file is damaged."""
        entry = _entries(path).get(store)
        try:
            return cls(**entry) if entry else cls()
        except TypeError:
            _warn(f"{path} holds what no version writes")
            return cls()

    def save(self, path: Path, store: str) -> None:
        """Write this store's entry atomically; the entries of other stores are kept."""
        entries = _entries(path)
        entries[store] = asdict(self)
        files.write_json(path, entries)


def _entries(path: Path) -> dict[str, Any]:
    """Return the entries of a state file by store. Without a whole file, the store is asked which runs it has."""
    try:
        entries = files.read_json(path) if path.exists() else {}
    except UserError as error:
        _warn(error)
        return {}
    if not isinstance(entries, dict):
        _warn(f"{path} holds what no version writes")
        return {}
    return entries


def _warn(what: object) -> None:
    logger.warning("MLflow's runs are found again and what they lack is sent: %s", what)


def store_key(tracking_uri: str) -> str:
    """Return a store's key in state files: a hash, since the URI of a database may contain a password."""
    return hashlib.sha256(tracking_uri.encode()).hexdigest()[:12]


def file_version(path: Path) -> list[int]:
    """Return a file's size in bytes and time of change in nanoseconds, by which a changed file is noticed."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
