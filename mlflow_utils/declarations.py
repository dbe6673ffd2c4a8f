"""What a campaign wants recorded: its phases and trials, declared in a file of its folder.

The file is append-only, so that a driver that is killed leaves a list from which a later process can send everything.
Trials without a declaration (the driver never got that far) are read from their `spec.json`.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge_common import event_log, files, trial_files
from bridge_common.trial_folder import TrialFolder
from mlflow_utils import names


@dataclass
class Phase:
    """A parent run: a phase of a campaign. `status` is final once the phase was finished."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0  # unix seconds
    status: str = trial_files.RUNNING
    ended: float | None = None
    artifacts: list[Path] = field(default_factory=list)


@dataclass
class Trial:
    """A child run: a variant of a phase."""

    folder: TrialFolder
    phase: str
    name: str
    fingerprint: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0


@dataclass
class Declared:
    """All that a campaign declared; phases by name, trials by phase and folder."""

    phases: dict[str, Phase] = field(default_factory=dict)
    trials: dict[tuple[str, str], Trial] = field(default_factory=dict)

    def add(self, campaign: Path, row: dict[str, Any]) -> None:
        """Take in one declaration; a later one about the same thing replaces the earlier."""
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


def append(campaign: Path, kind: str, phase: str, **row: Any) -> dict[str, Any]:
    """Write one declaration to the campaign's folder and return it; parents are made."""
    campaign.mkdir(parents=True, exist_ok=True)
    entry = {"kind": kind, "time": time.time(), "phase": phase, **row}
    files.append_jsonl(campaign / names.DECLARATIONS, entry)
    return entry


def inside(campaign: Path, path: Path) -> str:
    """A path as it is declared: relative where it lies in the campaign's folder, so that the folder can be moved."""
    campaign, path = campaign.resolve(), path.resolve()
    return str(path.relative_to(campaign)) if path.is_relative_to(campaign) else str(path)


def load(campaign: Path, *, undeclared: bool = True) -> Declared:
    """All declarations of a campaign.

    Args:
        campaign: its folder.
        undeclared: also take in trials without a declaration, as their `spec.json` describes them. A driver that is
            about to declare them itself says no: parameters cannot be changed once they were sent.
    """
    declared, path = Declared(), campaign / names.DECLARATIONS
    for row in event_log.read_all(path):
        declared.add(campaign, row)
    if not undeclared:
        return declared
    known = {trial.folder.path.resolve() for trial in declared.trials.values()}
    unknown = [folder for folder in TrialFolder.begun_in(campaign) if folder.path.resolve() not in known]
    for trial in _undeclared(unknown):
        declared.phases.setdefault(trial.phase, Phase(trial.phase, started=trial.started))
        declared.trials[trial.phase, inside(campaign, trial.folder.path)] = trial
    return declared


def _undeclared(folders: Iterable[TrialFolder]) -> list[Trial]:
    """Trials from their `spec.json`; parameters are the switches and what differs among them."""
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
