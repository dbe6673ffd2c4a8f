"""Non-blocking client: declare phases and trials while a campaign runs; `close()` reports anything unsent.

    tracker = Tracker(uri, "demo", folder)
    tracker.start()
    tracker.phase("phase1", params, tags)
    tracker.trial(trial_folder, phase="phase1", name="full", fingerprint=..., params=toggles, tags={"seed": 0})
    ...                                  # jobs append to their event logs
    tracker.finish("phase1", "FINISHED")
    unsent = tracker.close(timeout=30)   # None, or what is still to be sent and why

Each call appends a line to a file in the campaign's folder and returns. Only the sender's thread talks to MLflow.
"""

import importlib.util
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common import files, trial_files
from mlflow_utils import declarations, names, provenance
from mlflow_utils.declarations import Declarations, Trial
from mlflow_utils.sync import points, sent_state
from mlflow_utils.sync.sender import Sender
from mlflow_utils.sync.sent_state import SentState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unsent:
    """What MLflow does not have yet. Nothing is lost: it is on disk, and `Tracker.replay` sends it.

    Attributes:
        trials: number of trials with anything to send, even if it is only their status.
        points: number of metric values to send.
        reason: why they were not sent.
        folder: the campaign's folder.
    """

    trials: int
    points: int
    reason: str
    folder: Path

    def __str__(self) -> str:
        return (
            f"{self.points} points of {self.trials} trials are not in MLflow yet ({self.reason}). They are kept in "
            f"{self.folder} and sent by the next `resume` or `report` of this campaign."
        )


class Tracker:
    """Record a campaign in MLflow, from its folder, in the background.

    The experiment has the campaign's name. Each phase is a parent run, and each trial a child run, whose metrics are
    read from the trial's event log.
    """

    def __init__(self, tracking_uri: str, campaign: str, folder: Path) -> None:
        """Store the settings; neither MLflow nor the network is used before `start`.

        Args:
            tracking_uri: an MLflow server (http://...) or database (sqlite:///..., postgresql://...).
            campaign: name of the experiment.
            folder: the campaign's folder, STORAGE/CAMPAIGN.
        """
        self._uri, self._campaign, self._folder = tracking_uri, campaign, Path(folder)
        self._declared = Declarations()
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._provenance: dict[str, str] | None = None
        self._sender: Sender | None = None

    def start(self, *, undeclared: bool = False) -> None:
        """Start to send in the background, beginning with what earlier processes did not send.

        Without MLflow installed, a warning is logged and everything is declared for later.

        Args:
            undeclared: also send trials that were never declared, as their `spec.json` describes them.
        """
        if self._sender is not None:
            return
        with self._lock:
            self._declared = declarations.load(self._folder, undeclared=undeclared)
        if importlib.util.find_spec("mlflow") is None:
            logger.warning("MLflow is not installed: runs are recorded in %s only.", self._folder)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sender = Sender(
            *(self._uri, self._campaign, self._folder, self._declared, self._lock), beats=not undeclared
        )
        self._sender.start()

    def phase(self, phase: str, params: dict[str, Any], tags: dict[str, Any]) -> None:
        """Declare the parent run of a phase, or resume a declared one. Uncommitted changes of the code are attached.

        Args:
            phase: name of the phase.
            params: settings that all its variants share and that should be a column in MLflow.
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
        """Declare a child run. Its event log is followed until the trial ends, and again if the trial is resumed.

        Args:
            folder: the trial's folder, which need not exist yet.
            phase: the phase that the trial belongs to.
            name: name of the variant.
            fingerprint: fingerprint of the variant's spec; with phase and variant it identifies the run.
            params: the toggles and other settings that differ between variants; MLflow keeps the first value of each.
            tags: further tags, such as the seed; commit, versions, host and Ray job are added.
        """
        known = self._known(phase, Path(folder))  # if it has finished, this start, perhaps of other code, ran nothing
        origin = known.tags if known is not None and known.folder.finished else self._origin()
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
            folder=declarations.relative_path(self._folder, Path(folder)),
            name=name,
            fingerprint=fingerprint,
            params=params,
            tags={**origin, **tags, **own},
        )

    def describe(self, phase: str, text: str) -> None:
        """Set the description of a phase's run.

        Args:
            phase: name of a declared phase.
            text: Markdown.
        """
        self._declare("phase", phase, params={}, tags={names.NOTE: text})

    def artifact(self, phase: str, path: Path) -> None:
        """Attach a file or folder, such as plots, to the phase's run; its content is read when it is sent.

        Args:
            phase: name of the phase.
            path: the file or folder; it keeps its path relative to the campaign's folder.
        """
        self._declare("artifact", phase, path=declarations.relative_path(self._folder, Path(path)))

    def finish(self, phase: str, status: str) -> None:
        """End a phase, and those of its trials that have not reported an end, so that no run stays RUNNING.

        Args:
            phase: name of the phase.
            status: FINISHED, FAILED or KILLED.

        Raises:
            ValueError: the status is none of these.
        """
        if status not in trial_files.FINAL:
            raise ValueError(f"final status {status!r} is none of {sorted(trial_files.FINAL)}")
        self._open.discard(phase)
        self._declare("finish", phase, status=status)

    def close(self, timeout: float) -> Unsent | None:
        """Send what is left and stop. Phases that this tracker declared and did not finish end as KILLED.

        Args:
            timeout: longest time to wait, in seconds.

        Returns:
            None if MLflow has everything, else what it lacks and why.
        """
        for phase in sorted(self._open):
            self.finish(phase, trial_files.KILLED)
        if self._sender is None:
            return None
        sender, self._sender = self._sender, None
        sender.drain(timeout)
        with self._lock:
            reason = sender.reason or (f"no time left after {timeout:g} s" if sender.is_alive() else "not sent")
            return backlog(self._declared, self._folder, self._uri, reason)

    @classmethod
    def replay(cls, tracking_uri: str, campaign: str, folder: Path, timeout: float = 60.0) -> Unsent | None:
        """Send everything in a campaign's folder that the store lacks.

        Args:
            tracking_uri: the MLflow store.
            campaign: name of the experiment.
            folder: the campaign's folder.
            timeout: longest time to wait, in seconds.

        Returns:
            As `close`.
        """
        tracker = cls(tracking_uri, campaign, folder)
        tracker.start(undeclared=True)
        return tracker.close(timeout)

    def _origin(self) -> dict[str, str]:
        if self._provenance is None:
            self._provenance = provenance.tags()
        job = provenance.ray_job()
        return {**self._provenance, names.RAY_JOB: job} if job else self._provenance

    def _known(self, phase: str, folder: Path) -> Trial | None:
        with self._lock:
            return self._declared.trials.get((phase, declarations.relative_path(self._folder, folder)))

    def _declare(self, kind: str, phase: str, **row: Any) -> None:
        entry = declarations.append(self._folder, kind, phase, **row)
        with self._lock:
            self._declared.add(self._folder, entry)
        if self._sender is not None:
            self._sender.wake()


def backlog(declared: Declarations, folder: Path, tracking_uri: str, reason: str = "") -> Unsent | None:
    """Return what a store lacks of a campaign, judged from files alone; None if nothing.

    Args:
        declared: the campaign's declarations.
        folder: the campaign's folder.
        tracking_uri: the MLflow store.
        reason: why it was not sent, for the message to the user.
    """
    key, trials, unsent_points = sent_state.store_key(tracking_uri), 0, 0
    for trial in declared.trials.values():
        sent = SentState.load(trial.folder.sent_file, f"{key}/{trial.phase}")
        unsent_events = trial.folder.events_from(sent.position)[1] != sent.position
        ended = declared.phases[trial.phase].status in trial_files.FINAL
        if sent.run_id is None or unsent_events or (ended and sent.status not in trial_files.FINAL):
            events = trial.folder.stream_events(start=sent.position)
            trials, unsent_points = trials + 1, unsent_points + sum(1 for _ in points.points(events))
    unsent_phases = [
        phase
        for phase in declared.phases.values()
        if (status := SentState.load(folder / names.CAMPAIGN_SENT, f"{key}/{phase.name}").status) != phase.status
        and (phase.status in trial_files.FINAL or status not in trial_files.FINAL)
    ]
    return Unsent(trials, unsent_points, reason, folder) if trials or unsent_phases else None
