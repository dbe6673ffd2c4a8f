"""The campaign's side of the record: say what there is, go on working, ask at the end whether all of it arrived.

    tracker = Tracker(uri, "demo", folder)
    tracker.start()
    tracker.phase("phase1", params, tags)
    tracker.trial(trial_folder, phase="phase1", name="full", fingerprint=..., params=toggles, tags={"seed": 0})
    ...                                  # jobs append to their spools
    tracker.finish("phase1", "FINISHED")
    unsent = tracker.close(timeout=30)   # None, or what is still to be sent and why

Each call writes a line to a file of the campaign and returns; MLflow is met in the sender's thread alone.
"""

import importlib.util
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common import files, trial_files
from mlflow_utils import declarations, names, provenance
from mlflow_utils.declarations import Declared
from mlflow_utils.sync import points, sent_state
from mlflow_utils.sync.sender import Sender
from mlflow_utils.sync.sent_state import Sent
from mlflow_utils.tracking_uri import check, default_tracking_uri

__all__ = ["Tracker", "Unsent", "backlog", "check", "default_tracking_uri"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unsent:
    """What MLflow does not have yet. Nothing is lost: it is on disk and sent by the next command on the campaign."""

    trials: int  # with something to send, be it only their status
    points: int
    reason: str
    folder: Path

    def __str__(self) -> str:
        return (
            f"{self.points} points of {self.trials} trials are not in MLflow yet ({self.reason}). They are kept in "
            f"{self.folder} and sent by the next `resume` or `report` of this campaign."
        )


class Tracker:
    """Records a campaign in MLflow, from its folder, in the background."""

    def __init__(self, tracking_uri: str, campaign: str, folder: Path) -> None:
        """Touches neither MLflow nor the network.

        Args:
            tracking_uri: an MLflow server (http://...) or database (sqlite:///..., postgresql://...).
            campaign: name of the experiment.
            folder: the campaign's folder, STORAGE/CAMPAIGN.
        """
        self._uri, self._campaign, self._folder = tracking_uri, campaign, Path(folder)
        self._declared = Declared()
        self._guard = threading.Lock()
        self._open: set[str] = set()
        self._provenance: dict[str, str] | None = None
        self._sender: Sender | None = None

    def start(self, *, undeclared: bool = False) -> None:
        """Begin to send in the background: what earlier processes left over, and what comes.

        Args:
            undeclared: also send trials that were never declared, as their `spec.json` describes them.
        """
        if self._sender is not None:
            return
        with self._guard:
            self._declared = declarations.load(self._folder, undeclared=undeclared)
        if importlib.util.find_spec("mlflow") is None:
            logger.warning("MLflow is not installed: runs are recorded in %s only.", self._folder)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sender = Sender(self._uri, self._campaign, self._folder, self._declared, self._guard)
        self._sender.start()

    def phase(self, phase: str, params: dict[str, Any], tags: dict[str, Any]) -> None:
        """Declare the parent run of a phase, or that a phase goes on.

        Args:
            phase: its name.
            params: settings that all its variants share, as far as they are worth a column.
            tags: further tags; commit, versions, host and Ray job are added.
        """
        patch = provenance.diff()
        if patch:
            files.write_text(self._folder / trial_files.GIT_DIFF, patch)
        own = {names.KIND: "phase", names.CAMPAIGN: self._campaign, names.PHASE: phase}
        self._open.add(phase)
        self._declare("phase", phase, params=params, tags={**self._origin(), **tags, **own})

    def trial(
        self, folder: Path, *, phase: str, name: str, fingerprint: str, params: dict[str, Any], tags: dict[str, Any]
    ) -> None:
        """Declare a child run; its spool is followed until it ends, and again if it goes on.

        Args:
            folder: the trial's folder, with or without anything in it.
            phase: of which it is a part.
            name: the variant.
            fingerprint: of the variant's spec; with the phase it identifies the run.
            params: the toggles and what else tells the variants apart; values are shown as they are first declared.
            tags: further tags, the seed among them.
        """
        own = {
            names.KIND: "trial",
            names.CAMPAIGN: self._campaign,
            names.PHASE: phase,
            names.VARIANT: name,
            names.FINGERPRINT: fingerprint,
        }
        self._declare(
            "trial",
            phase,
            folder=declarations.inside(self._folder, Path(folder)),
            name=name,
            fingerprint=fingerprint,
            params=params,
            tags={**self._origin(), **tags, **own},
        )

    def artifact(self, phase: str, path: Path) -> None:
        """Attach a file or folder (plots, an appendix) to the phase's run; its content is sent as it is when sent."""
        self._declare("artifact", phase, path=declarations.inside(self._folder, Path(path)))

    def finish(self, phase: str, status: str) -> None:
        """End a phase. Its trials that did not end by themselves are ended too, so that nothing stays RUNNING.

        Args:
            phase: its name.
            status: FINISHED, FAILED or KILLED.
        """
        if status not in trial_files.FINAL:
            raise ValueError(f"final status {status!r} is none of {sorted(trial_files.FINAL)}")
        self._open.discard(phase)
        self._declare("finish", phase, status=status)

    def close(self, timeout: float) -> Unsent | None:
        """Send what is left and stop; phases that were declared here and not finished end as KILLED.

        Args:
            timeout: most seconds to wait.

        Returns:
            None if MLflow has everything, else what it lacks and why.
        """
        for phase in sorted(self._open):
            self.finish(phase, trial_files.KILLED)
        if self._sender is None:
            return None
        sender, self._sender = self._sender, None
        sender.drain(timeout)
        with self._guard:
            reason = sender.reason or (f"no time left after {timeout:g} s" if sender.is_alive() else "not asked for")
            return backlog(self._declared, self._folder, self._uri, reason)

    @classmethod
    def replay(cls, tracking_uri: str, campaign: str, folder: Path, timeout: float = 60.0) -> Unsent | None:
        """Send everything in a campaign's folder that the store lacks; see `close` for what is returned."""
        tracker = cls(tracking_uri, campaign, folder)
        tracker.start(undeclared=True)
        return tracker.close(timeout)

    def _origin(self) -> dict[str, str]:
        if self._provenance is None:
            self._provenance = provenance.tags()
        job = provenance.ray_job()
        return {**self._provenance, names.RAY_JOB: job} if job else self._provenance

    def _declare(self, kind: str, phase: str, **row: Any) -> None:
        entry = declarations.append(self._folder, kind, phase, **row)
        with self._guard:
            self._declared.add(self._folder, entry)
        if self._sender is not None:
            self._sender.nudge()


def backlog(declared: Declared, folder: Path, tracking_uri: str, reason: str = "") -> Unsent | None:
    """What a store lacks of a campaign, judged from files alone; None if nothing."""
    key, trials, waiting = sent_state.store_key(tracking_uri), 0, 0
    for trial in declared.trials.values():
        sent = Sent.load(trial.folder.sent_file, f"{key}/{trial.phase}")
        events = trial.folder.events(start=sent.position)
        missing = sum(1 for _ in points.points(events))
        over = declared.phases[trial.phase].status in trial_files.FINAL and sent.status not in trial_files.FINAL
        if sent.run_id is None or events or over:
            trials, waiting = trials + 1, waiting + missing
    late = [
        phase
        for phase in declared.phases.values()
        if Sent.load(folder / names.CAMPAIGN_SENT, f"{key}/{phase.name}").status != phase.status
    ]
    return Unsent(trials, waiting, reason, folder) if trials or late else None
