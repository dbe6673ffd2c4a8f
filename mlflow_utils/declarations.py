"""Declarations: which phases and trials of a campaign to record, as an append-only file in the campaign's folder.

If the driver is killed, a later process can still send everything that the file declares. Trials without a declaration,
because the driver was killed before it, are described by their `spec.json`.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge_common import files, trial_files
from bridge_common.trial_folder import TrialFolder
from mlflow_utils import names

logger = logging.getLogger(__name__)


@dataclass
class Phase:
    """A declared phase, the parent run of its trials. `started` and `ended` are in seconds since 1970."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0
    status: str = trial_files.RUNNING
    ended: float | None = None
    artifacts: list[Path] = field(default_factory=list)


@dataclass
class Trial:
    """A declared trial, a child run of its phase. `started` is in seconds since 1970."""

    folder: TrialFolder
    phase: str
    name: str
    fingerprint: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0


@dataclass
class Declarations:
    """All declarations of a campaign: phases by name, trials by phase and folder."""

    phases: dict[str, Phase] = field(default_factory=dict)
    trials: dict[tuple[str, str], Trial] = field(default_factory=dict)

    def add(self, campaign: Path, row: dict[str, Any]) -> None:
        """Add one declaration, a row of the file; it replaces an earlier one of the same phase, trial or artifact."""
        kind, now = row["kind"], float(row["time"])
        phase = self.phases.setdefault(row["phase"], Phase(row["phase"], started=now))
        if kind == "phase":
            phase.params, phase.tags = {**phase.params, **row["params"]}, {**phase.tags, **row["tags"]}
            phase.status, phase.ended = trial_files.RUNNING, None
        elif kind == "finish":
            phase.status, phase.ended = row["status"], now
        elif kind == "artifact":
            path = campaign / row["path"]
            phase.artifacts = [other for other in phase.artifacts if other != path] + [path]
        elif kind == "trial":
            known = self.trials.get((row["phase"], row["folder"]))
            self.trials[row["phase"], row["folder"]] = Trial(
                folder=TrialFolder(campaign / row["folder"]),
                phase=row["phase"],
                name=row["name"],
                fingerprint=row["fingerprint"],
                params=row["params"],
                tags=row["tags"],
                started=known.started if known else now,
            )

    def add_whole(self, campaign: Path, row: dict[str, Any]) -> bool:
        """Add one declaration; return False if it lacks what it should have, so that nothing was added."""
        try:
            self.add(campaign, row)
        except (KeyError, TypeError, ValueError):
            return False
        return True


def append(campaign: Path, kind: str, phase: str, **row: Any) -> dict[str, Any]:
    """Append one declaration to the campaign's file, and return the row. Missing folders are created."""
    campaign.mkdir(parents=True, exist_ok=True)
    entry = {"kind": kind, "time": time.time(), "phase": phase, **row}
    files.append_jsonl(campaign / names.DECLARATIONS, entry)
    return entry


def relative_path(campaign: Path, path: Path) -> str:
    """Return the path relative to the campaign's folder, which may be moved later; absolute if it lies outside."""
    campaign, path = campaign.resolve(), path.resolve()
    return str(path.relative_to(campaign)) if path.is_relative_to(campaign) else str(path)


def load(campaign: Path, *, undeclared: bool = True) -> Declarations:
    """Read all declarations of a campaign.

    Args:
        campaign: the campaign's folder.
        undeclared: also return trials without a declaration, as their `spec.json` describes them. A driver that will
            declare them itself passes False, because MLflow does not let parameters change once they were sent.
    """
    declared, path = Declarations(), campaign / names.DECLARATIONS
    data = path.read_bytes() if path.exists() else b""
    rows = files.log_rows(data)
    read = sum(declared.add_whole(campaign, row) for row in rows)
    if read < sum(1 for line in data.split(b"\n") if line.strip()):
        logger.warning("%s is damaged: trials whose declarations are lost are described by their spec.json", path)
    if not undeclared:
        return declared
    known = {trial.folder.path.resolve() for trial in declared.trials.values()}
    unknown = [folder for folder in TrialFolder.begun_in(campaign) if folder.path.resolve() not in known]
    for trial in _undeclared(unknown):
        declared.phases.setdefault(trial.phase, Phase(trial.phase, started=trial.started))
        declared.trials[trial.phase, relative_path(campaign, trial.folder.path)] = trial
    return declared


def _undeclared(folders: Iterable[TrialFolder]) -> list[Trial]:
    """Return trials as their `spec.json` describes them, with switches and differing fields as parameters."""
    rows = [(folder, folder.spec() or {}) for folder in folders]
    specs = [row["spec"] for _, row in rows]
    switches = [name for name, value in specs[0].items() if isinstance(value, bool)] if specs else []
    shown = names.differing(specs, always=switches)
    return [
        Trial(
            folder=folder,
            phase=row["phase"],
            name=row["variant"],
            fingerprint=row["fingerprint"],
            params={name: row["spec"].get(name) for name in shown},
            tags={names.SEED: row["seed"]},
            started=folder.spec_file.stat().st_mtime,
        )
        for folder, row in rows
    ]
