"""What an MLflow store already has of a trial or phase, kept on disk so that sending resumes where it stopped."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bridge_common import files


@dataclass
class Sent:
    """What one MLflow store already has of one trial or phase."""

    run_id: str | None = None
    experiment_id: str | None = None
    position: int = 0  # bytes of the spool that are there
    status: str | None = None
    implied: bool = False  # the status is not the trial's own word: its phase ended
    described: str | None = None  # hash of the parameters and tags that were sent
    asked: bool = False  # a run was asked for without an answer: a second one may turn up
    files: dict[str, list[int]] = field(default_factory=dict)  # sent artifacts, with size and time of change
    refused: int = 0  # points and files that MLflow will not take, whatever the number of attempts

    @classmethod
    def load(cls, path: Path, store: str) -> "Sent":
        """What the state file says of a store; nothing where there is no file."""
        entry = files.read_json(path).get(store) if path.exists() else None
        return cls(**entry) if entry else cls()

    def save(self, path: Path, store: str) -> None:
        """Write this store's entry atomically; other stores' entries stay."""
        entries = files.read_json(path) if path.exists() else {}
        entries[store] = asdict(self)
        files.write_json(path, entries)


def store_key(tracking_uri: str) -> str:
    """Short name of a store in state files. A hash, since the URI of a database may hold a password."""
    return hashlib.sha256(tracking_uri.encode()).hexdigest()[:12]
