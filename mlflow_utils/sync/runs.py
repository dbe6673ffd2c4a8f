"""How a phase and a trial get from disk to MLflow: described, followed, finished; each time only what is missing."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bridge_common import trial_files
from mlflow_utils import names, trial_summary
from mlflow_utils.declarations import Phase, Trial
from mlflow_utils.sync import points
from mlflow_utils.sync.points import News, Point
from mlflow_utils.sync.store import BATCH, GoneError, RefusedError, Store
from mlflow_utils.sync.synced_run import SyncedRun, digest

logger = logging.getLogger(__name__)


class PhaseLine(SyncedRun):
    """A phase's parent run."""

    def __init__(self, campaign: Path, store_key: str, phase: Phase) -> None:
        super().__init__(
            state=campaign / names.CAMPAIGN_SENT,
            store_key=f"{store_key}/{phase.name}",
            name=phase.name,
            identity={names.KIND: "phase", names.PHASE: phase.name},
            started=phase.started,
        )
        self._campaign = campaign

    def ship(self, store: Store, phase: Phase, *, closing: bool) -> str:
        """Bring the parent run up to date, its final status only when `closing`, and return its id."""
        run_id = self.run(store, phase.params, {**phase.tags, names.FOLDER: str(self._campaign.resolve())})
        self.upload(store, self._campaign, [*trial_files.CAMPAIGN_FILES, *map(str, phase.artifacts)])
        if phase.status != self.sent.status and (closing or phase.status not in trial_files.FINAL):
            self.set_status(store, phase.status, phase.ended)
        return run_id


class TrialLine(SyncedRun):
    """A trial's run, following its spool."""

    def __init__(self, store_key: str, trial: Trial) -> None:
        super().__init__(
            state=trial.folder.sent_file,
            store_key=f"{store_key}/{trial.phase}",
            name=trial.name,
            identity={
                names.KIND: "trial",
                names.PHASE: trial.phase,
                names.FINGERPRINT: trial.fingerprint,
                names.VARIANT: str(trial.tags.get(names.VARIANT, trial.name)),
            },
            started=_started(trial),
        )
        self._folder = trial.folder
        self._batch = BATCH
        self._known: list[Point] = []
        self._news: News | None = None
        self._status: tuple[str | None, float | None] = (None, None)
        self._latest: dict[str, Point] = {}

    def adopt(self, store: Store, run_id: str) -> None:
        """The folder's memory was lost: ask the store, so that nothing is sent a second time under another time."""
        self._known, self._news = store.points(run_id), None

    def ship(
        self, store: Store, trial: Trial, parent: str, ended: tuple[str, float] | None, halt: Callable[[], bool]
    ) -> None:
        """Send what the trial's folder has and the store lacks.

        Args:
            store: where to.
            trial: the declaration.
            parent: id of the phase's run.
            ended: status and time at which the phase ended, None while it runs. A trial without a final status of its
                own did not survive that.
            halt: asked between requests; true ends the work early.
        """
        own = {names.VARIANT: trial.name, names.PARENT: parent, names.FOLDER: str(self._folder.path.resolve())}
        tags = {**trial.tags, **own}
        if self.sent.described == digest(trial.params, tags) and self._complete(ended is not None):
            return
        try:
            self.run(store, trial.params, tags)
            self.upload(store, self._folder.path, [trial_files.SPEC])
            while not halt():
                if self._news is None:
                    self._remember()
                events, position = self._folder.events_from(self.sent.position)
                if position == self.sent.position:
                    self._finish(store, ended)
                    return
                self._send(store, events)
                self.sent.position = position
                self.save()
        except BaseException:
            # What was taken in but not confirmed has to count as news again.
            self._news = None
            raise

    def _complete(self, phase_ended: bool) -> bool:
        """Whether the store has all of a trial that ended, so that nothing has to be asked."""
        sent, result, events = self.sent, self._folder.result_file, self._folder.events_file
        return (
            sent.run_id is not None
            and sent.status in trial_files.FINAL
            and (phase_ended or not sent.implied)
            and (not events.exists() or events.stat().st_size == sent.position)
            and (not result.exists() or sent.files.get(trial_files.RESULT) == _facts(result))
        )

    def _remember(self) -> None:
        """Rebuild from the spool what was sent, and the status it ended in."""
        self._news, self._latest, self._status = News(), {}, (None, None)
        for point in self._known:
            self._news(point)
        self._take_in(self._folder.events(until=self.sent.position))

    def _take_in(self, events: list[dict[str, Any]]) -> list[Point]:
        """The new points among the events, with the events' status noted."""
        assert self._news is not None
        found = list(points.points(events))
        self._latest.update((point.name, point) for point in found)
        for event in events:
            if event["kind"] == "status":
                self._status = event["status"], event.get("time")
        return [point for point in found if self._news(point)]

    def _send(self, store: Store, events: list[dict[str, Any]]) -> None:
        run_id = str(self.sent.run_id)
        self._log(store, run_id, self._take_in(events))
        tags = {key: value for event in events if event["kind"] == "tags" for key, value in event["values"].items()}
        if tags:
            store.describe(run_id, {}, tags)
        named = [event["path"] for event in events if event["kind"] == "artifact"]
        root = self._folder.path.resolve()
        self.upload(store, self._folder.path, [name for name in named if (root / name).resolve().is_relative_to(root)])

    def _log(self, store: Store, run_id: str, points: list[Point]) -> None:
        """Send points in batches that shrink while the store is too slow for them and grow again."""
        at = 0
        while at < len(points):
            batch = points[at : at + self._batch]
            try:
                self._log_batch(store, run_id, batch)
            except Exception:
                self._batch = max(BATCH // 16, self._batch // 2)
                raise
            at += len(batch)
            self._batch = min(BATCH, self._batch * 2)

    def _log_batch(self, store: Store, run_id: str, batch: list[Point]) -> None:
        """Send one batch; of a refused one all but the points that cause it, which are named and counted."""
        try:
            store.log_points(run_id, batch)
        except RefusedError as refusal:
            if not store.is_active(run_id):
                raise GoneError(f"run {run_id} was deleted") from refusal
            if len(batch) == 1:
                self.sent.refused += 1
                logger.warning("MLflow does not take %s of %s: %s", batch[0].name, self.name, refusal)
                return
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self._log_batch(store, run_id, half)

    def _finish(self, store: Store, ended: tuple[str, float] | None) -> None:
        """All events are sent: bring the run to the status that the folder shows."""
        said, at = self._status
        status = trial_summary.status_of(self._folder, said, ended[0] if ended else trial_files.RUNNING)
        self.sent.implied = status in trial_files.FINAL and said not in trial_files.FINAL
        if self.sent.implied and ended is not None:
            at = ended[1]
        if status in trial_files.FINAL:
            result = self._folder.result_file
            if result.exists() and self.sent.files.get(trial_files.RESULT) != _facts(result):
                self._conclude(store, at)
            self.upload(store, self._folder.path, list(trial_files.TRIAL_FILES))
        if status != self.sent.status:
            self.set_status(store, status, at)

    def _conclude(self, store: Store, at: float | None) -> None:
        """Send what the result says and the events did not: metrics, GPU-hours, where it ran, the checkpoint."""
        step = max((point.step for point in self._latest.values()), default=0)
        time = at if at is not None else self._folder.result_file.stat().st_mtime
        event = {"kind": "metrics", "time": time, "step": step, "values": trial_summary.result_metrics(self._folder)}
        said = {name: point.value for name, point in self._latest.items()}
        self._log(store, str(self.sent.run_id), [p for p in points.points([event]) if said.get(p.name) != p.value])
        store.describe(str(self.sent.run_id), {}, trial_summary.result_tags(self._folder))


def _started(trial: Trial) -> float:
    """When a trial began: an event older than its declaration is from before the store was told of it."""
    events, _ = trial.folder.events_from(0)
    return min([trial.started, *(event["time"] for event in events[:1])])


def _facts(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]
