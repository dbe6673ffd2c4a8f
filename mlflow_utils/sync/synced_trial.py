"""Sync the run of a trial: follow its event log, then send its files, its result and its final status."""

import logging
from collections.abc import Callable
from typing import Any

from bridge_common import trial_files
from mlflow_utils import names, trial_summary
from mlflow_utils.declarations import Trial
from mlflow_utils.sync import points
from mlflow_utils.sync.points import Point, SeenPoints
from mlflow_utils.sync.sent_state import file_version
from mlflow_utils.sync.store import BATCH, GoneError, RefusedError, Store
from mlflow_utils.sync.synced_run import SyncedRun, digest

logger = logging.getLogger(__name__)

_OF_THE_JOB = frozenset(f"{names.VERSION}{name}" for name in names.JOBS_VERSIONS)


class SyncedTrial(SyncedRun):
    """A trial's run, a child of its phase's run."""

    def __init__(self, store_key: str, trial: Trial) -> None:
        """Read the state file.

        Args:
            store_key: key of the store.
            trial: the declared trial.
        """
        super().__init__(
            state=trial.folder.sent_file,
            store_key=f"{store_key}/{trial.phase}",
            name=run_name(trial),
            identity={
                names.KIND: "trial",
                names.PHASE: trial.phase,
                names.FINGERPRINT: trial.fingerprint,
                names.VARIANT: str(trial.tags.get(names.VARIANT, trial.name)),
            },
            started=_started(trial),
        )
        self._folder, self._words = trial.folder, ""
        self._batch = BATCH
        self._found: str | None = None  # an existing run that the state file did not know: its points are seen, too
        self._seen: SeenPoints | None = None  # None: to be rebuilt from the event log
        self._reported: tuple[str | None, float | None] = (None, None)  # last status event: status and time
        self._statuses: list[tuple[str, float]] = []  # all status events, and the end of attempts that have none
        self._last_event = 0.0
        self._latest: dict[str, Point] = {}

    def load_existing(self, store: Store, run_id: str) -> None:
        """Let the run's points be read from the store, so that none is sent again under another time."""
        self._found, self._seen = run_id, None

    def sync(
        self, store: Store, trial: Trial, parent: str, ended: tuple[str, float] | None, stop: Callable[[], bool]
    ) -> None:
        """Send what the store lacks of the trial.

        Args:
            store: the MLflow store.
            trial: the trial as it is declared now.
            parent: id of the phase's run.
            ended: status and end of the phase (in seconds since 1970), or None if it runs. A trial that has reported no
                final status by then ended with its phase.
            stop: called between requests; the rest is left for later once it returns True.
        """
        own = {
            names.VARIANT: trial.name,
            names.RUN_NAME: self.name,
            names.PARENT: parent,
            names.FOLDER: str(self._folder.path.resolve()),
        }
        # The first events of the job replace these versions of the driver's by its own.
        late = _OF_THE_JOB if self.sent.position else frozenset()
        tags = {name: value for name, value in trial.tags.items() if name not in late} | own | self._note(trial)
        if self.sent.described == digest(trial.params, tags) and self._is_complete(ended is not None):
            self._release()
            return
        try:
            self.get_or_create(store, trial.params, tags)
            self.upload(store, self._folder.path, [trial_files.SPEC])
            while not stop():
                if self._seen is None:
                    self._reread_sent_events(store)
                events, position = self._folder.events_from(self.sent.position)
                if position == self.sent.position:
                    self._finish(store, ended)
                    if self._is_complete(ended is not None):
                        self._release()
                    return
                self._send(store, events)
                self.sent.position = position
                self.save()
        except BaseException:
            # Points that were read but not confirmed have to count as new again.
            self._seen = None
            raise

    def _release(self) -> None:
        """Forget the points of a trial that the store has whole; they are read again if its log grows."""
        self._seen, self._found, self._latest = None, None, {}

    def _is_complete(self, phase_ended: bool) -> bool:
        """Return whether the store has everything of a trial that ended, so that no request is needed."""
        sent, result, events = self.sent, self._folder.result_file, self._folder.events_file
        return (
            sent.run_id is not None
            and sent.status in trial_files.FINAL
            and (phase_ended or not sent.implied)
            and (not events.exists() or events.stat().st_size == sent.position)
            and (not result.exists() or sent.files.get(trial_files.RESULT) == file_version(result))
        )

    def _reread_sent_events(self, store: Store) -> None:
        """Rebuild seen points, latest values and reported status from the part of the event log that was sent."""
        self._seen, self._latest, self._reported = SeenPoints(), {}, (None, None)
        self._statuses, self._last_event = [], 0.0
        for point in store.points(self._found) if self._found is not None else ():
            self._seen.add(point)
        for event in self._folder.stream_events(until=self.sent.position):
            self._new_points([event])

    def _new_points(self, events: list[dict[str, Any]]) -> list[Point]:
        """Return the points of the events that are new; note latest values and the reported status."""
        assert self._seen is not None
        read = list(points.points(events))
        self._latest.update((point.name, point) for point in read)
        for event in events:
            if event["kind"] == "status":
                self._reported = event["status"], event.get("time")
                self._note_status(event["status"], float(event.get("time") or self._last_event))
            self._last_event = float(event.get("time") or self._last_event)
        return [point for point in read if self._seen.add(point)]

    def _note_status(self, status: str, when: float) -> None:
        """Note a status. An attempt that was killed without a word ended with its last event."""
        if status == trial_files.RUNNING and self._statuses and self._statuses[-1][0] == trial_files.RUNNING:
            self._statuses.append((trial_files.KILLED, self._last_event))
        self._statuses.append((status, when))

    def _send(self, store: Store, events: list[dict[str, Any]]) -> None:
        """Send the points, tags and artifacts of some events."""
        run_id = str(self.sent.run_id)
        self._log(store, run_id, self._new_points(events))
        tags = {
            f"{names.VERSION}{key}" if key in names.JOBS_VERSIONS else key: value
            for event in events
            if event["kind"] == "tags"
            for key, value in event["values"].items()
        }
        if any(event["kind"] == "status" for event in events):
            tags[names.ATTEMPTS] = names.attempts_text(self._statuses)
        if tags:
            store.describe(run_id, {}, tags)
        artifacts = [event["path"] for event in events if event["kind"] == "artifact"]
        self.upload(store, self._folder.path, artifacts)  # without paths outside of it, which are not of its record

    def _log(self, store: Store, run_id: str, points: list[Point]) -> None:
        """Send points in batches, which are halved when a request fails and doubled when one succeeds."""
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
        """Send one batch. If the store refuses it, bisect it, so that only refused points are skipped and logged."""
        try:
            store.log_points(run_id, batch)
        except RefusedError as refusal:
            if not store.is_active(run_id):
                raise GoneError(f"run {run_id} was deleted") from refusal
            if len(batch) == 1:
                self.sent.refused += 1
                logger.warning("MLflow refuses %s of %s: %s", batch[0].name, self.name, refusal)
                return
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self._log_batch(store, run_id, half)

    def _finish(self, store: Store, ended: tuple[str, float] | None) -> None:
        """Set the run's status, and send the result and files of a trial that ended; all events are sent before."""
        reported, time = self._reported
        status = trial_summary.status_of(self._folder, reported, ended[0] if ended else trial_files.RUNNING)
        self.sent.implied = status in trial_files.FINAL and reported not in trial_files.FINAL
        if self.sent.implied and ended is not None:
            time = ended[1]
        if status in trial_files.FINAL:
            result = self._folder.result_file
            if result.exists() and self.sent.files.get(trial_files.RESULT) != file_version(result):
                self._send_result(store, time)
            ends = trial_summary.stopped_tags(self._folder) | trial_summary.error_tags(self._folder)
            if ends and status != self.sent.status:
                store.describe(str(self.sent.run_id), {}, ends)
            self.upload(store, self._folder.path, list(trial_files.TRIAL_FILES))
        if status != self.sent.status:
            self.set_status(store, status, time)

    def _send_result(self, store: Store, time: float | None) -> None:
        """Send what the result has and the events lack: metrics, GPU-hours, the node, the checkpoint."""
        step = max((point.step for point in self._latest.values()), default=0)
        time = time if time is not None else self._folder.result_file.stat().st_mtime
        event = {"kind": "metrics", "time": time, "step": step, "values": trial_summary.result_metrics(self._folder)}
        latest = {name: point.value for name, point in self._latest.items()}
        self._log(store, str(self.sent.run_id), [p for p in points.points([event]) if latest.get(p.name) != p.value])
        store.describe(str(self.sent.run_id), {}, trial_summary.result_tags(self._folder))

    def _note(self, trial: Trial) -> dict[str, str]:
        """Return the run's description: what the trial is for, and once it has a result also what came out."""
        if not self._words and self._folder.finished:
            self._words = trial_summary.in_words(self._folder)
        text = "\n\n".join(filter(None, [trial.tags.get(names.NOTE), self._words]))
        return {names.NOTE: text} if text else {}


def run_name(trial: Trial) -> str:
    """Return the name of a trial's run: its variant and its seed."""
    seed = trial.tags.get(names.SEED)
    return trial.name if seed is None else f"{trial.name} (seed {seed})"


def _started(trial: Trial) -> float:
    """Return when a trial began: at its declaration, or at its first event if that is older, as after a resume."""
    events, _ = trial.folder.events_from(0)
    return min([trial.started, *(event["time"] for event in events[:1])])
