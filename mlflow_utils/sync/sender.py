"""A background thread that syncs a campaign's folder to MLflow and never blocks the driver.

The thread reads files and sends requests. Only `close` of the tracker waits for it, up to a time limit. While a store
is unreachable, records stay on disk, and this or a later process sends them.
"""

import logging
import threading
import time
from pathlib import Path

from filelock import Timeout

from bridge_common import trial_files
from bridge_common.locks import file_lock
from mlflow_utils import experiment_view, names
from mlflow_utils.declarations import Declarations, Phase, Trial
from mlflow_utils.sync.sent_state import store_key
from mlflow_utils.sync.store import GoneError, RefusedError, Store, UnavailableError
from mlflow_utils.sync.synced_phase import SyncedPhase
from mlflow_utils.sync.synced_run import SyncedRun
from mlflow_utils.sync.synced_trial import SyncedTrial

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two reads of the event logs
MAX_RETRY_DELAY = 30.0  # seconds


class Sender(threading.Thread):
    """Send what is declared and on disk until `drain`. Of several processes on one campaign, one sends at a time."""

    def __init__(
        self,
        tracking_uri: str,
        campaign: str,
        folder: Path,
        declared: Declarations,
        lock: threading.Lock,
        *,
        beats: bool = False,
    ) -> None:
        """Store the settings; nothing is opened or imported before `start`.

        Args:
            tracking_uri: the MLflow store.
            campaign: name of the experiment.
            folder: the campaign's folder; artifacts of a store without a server are kept beside it.
            declared: what to send; it may grow while the thread runs, under `lock`.
            lock: lock of `declared`.
            beats: also tell, now and then, that the campaign's driver is alive.
        """
        super().__init__(name=f"mlflow-sender-{campaign}", daemon=True)
        self._uri, self._campaign, self._folder = tracking_uri, campaign, folder
        self._declared, self._lock = declared, lock
        self._key = store_key(tracking_uri)
        self._phases: dict[str, SyncedPhase] = {}
        self._trials: dict[tuple[str, str], SyncedTrial] = {}
        self._store: Store | None = None
        self._checked_runs = False
        self._viewed = -1  # number of trials by which the experiment's view was made
        self._beats = beats
        self._wake = threading.Event()
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._delay = INTERVAL
        self.reason: str | None = None  # why the last sync failed

    def wake(self) -> None:
        """Sync now instead of after the current interval."""
        self._wake.set()

    def drain(self, timeout: float) -> None:
        """Send everything and end, within `timeout` seconds; a request in flight is not waited for any longer."""
        self._draining.set()
        self.wake()
        if self.ident is not None:
            self.join(timeout)
        self._stopped.set()
        self.wake()

    def run(self) -> None:
        """Sync until drained or stopped. No error leaves the thread; each becomes `reason`."""
        process_lock = file_lock(self._folder / names.SENDER_LOCK)
        while not self._stopped.is_set():
            last_attempt = self._draining.is_set()
            try:
                with process_lock.acquire(timeout=0):
                    reason = self._sync_repeatedly()
                    last_attempt = last_attempt or self._draining.is_set()
            except Timeout:
                reason = "another process is sending this campaign's records"
            except OSError as error:  # as of a storage that is read-only here
                reason = f"cannot write {error.filename}: {error.strerror}"
                if last_attempt:
                    self.reason = reason
                    return
            self._report(reason)
            if last_attempt and reason is None:
                return
            self._delay = min(MAX_RETRY_DELAY, self._delay * 2)
            self._pause(INTERVAL if last_attempt else self._delay)

    def _sync_repeatedly(self) -> str | None:
        """Sync once per interval, until a sync fails (return why) or the last one before the end succeeds (None)."""
        while not self._stopped.is_set():
            draining = self._draining.is_set()
            try:
                problem = self._sync()
            except UnavailableError as error:
                return str(error)
            except Exception as error:
                logger.debug("sending to MLflow failed", exc_info=error)
                return f"{type(error).__name__}: {error}"
            if problem or draining:
                return problem
            self._report(None)
            self._delay = INTERVAL
            self._pause(INTERVAL)
        return self.reason

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _report(self, reason: str | None) -> None:
        """Set `reason`, and log once when the store becomes unreachable and once when it is reachable again."""
        if reason and not self.reason:
            logger.warning("MLflow: %s. Records are kept in %s and sent later.", reason, self._folder)
        elif self.reason and not reason:
            logger.warning("MLflow answers again.")
        self.reason = reason

    def _sync(self) -> str | None:
        """Sync every run once. Return a problem of one run, if any; it does not keep the others from being synced."""
        with self._lock:
            phases, trials = list(self._declared.phases.values()), list(self._declared.trials.items())
        if not phases:
            return None
        if self._store is None:
            self._store = Store(self._uri, self._campaign, self._folder.resolve().parent / "mlartifacts")
        for phase in phases:
            self._phases.setdefault(phase.name, SyncedPhase(self._folder, self._key, phase))
        for key, trial in trials:
            if key not in self._trials:
                self._trials[key] = SyncedTrial(self._key, trial)
        if not self._checked_runs:
            self._reset_lost_runs(self._store)
        if len(trials) != self._viewed:
            self._store.tag_experiment(experiment_view.experiment_tags(trial for _, trial in trials))
            self._viewed = len(trials)
        problem, opened = None, []
        for phase in phases:  # all before one ends: a reader would take the campaign for ended in between
            try:
                opened.append((phase, self._open_phase(self._store, phase)))
            except (GoneError, RefusedError) as error:
                problem = self._problem(self._phases[phase.name], error)
        for phase, parent in opened:
            children = [(self._trials[key], trial) for key, trial in trials if trial.phase == phase.name]
            problem = self._sync_phase(self._store, phase, parent, children) or problem
        return problem

    def _reset_lost_runs(self, store: Store) -> None:
        """Start over with runs that the store no longer has, as when its database was replaced by a new one."""
        existing = store.run_ids()
        for run in (*self._phases.values(), *self._trials.values()):
            if run.sent.run_id is not None and run.sent.run_id not in existing:
                run.reset()
        self._checked_runs = True

    def _open_phase(self, store: Store, phase: Phase) -> str:
        """Sync a phase's run but for its end, and return its id."""
        run = self._phases[phase.name]
        parent = run.sync(store, phase, closing=False, driven=self._beats)
        if self._beats and phase.status not in trial_files.FINAL:
            run.beat(store)
        return parent

    def _sync_phase(
        self, store: Store, phase: Phase, parent: str, children: list[tuple[SyncedTrial, Trial]]
    ) -> str | None:
        """Sync the trials of a phase's run, then its final status, so that no child outlives its parent."""
        ended = (phase.status, phase.ended or time.time()) if phase.status in trial_files.FINAL else None
        problem = None
        for child, trial in children:
            if self._stopped.is_set():
                return "stopped before everything was sent"
            try:
                child.sync(store, trial, parent, ended, self._stopped.is_set)
            except (GoneError, RefusedError, OSError, ValueError, KeyError) as error:
                problem = self._problem(child, error)
        try:
            self._phases[phase.name].sync(store, phase, closing=True, driven=self._beats)
        except (GoneError, RefusedError) as error:
            problem = self._problem(self._phases[phase.name], error)
        return problem

    def _problem(self, run: SyncedRun, error: Exception) -> str:
        """Describe the error of one run; a run that was deleted is created again by the next sync."""
        if isinstance(error, GoneError):
            run.reset()
        else:
            logger.debug("sending one run failed", exc_info=error)
        return f"{run.name}: {type(error).__name__}: {error}"
