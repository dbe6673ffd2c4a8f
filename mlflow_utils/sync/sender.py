"""A thread in the driver that brings a campaign's records to MLflow and never stands in the way of anything else.

It reads files and sends; nobody waits for it but `close`, for as long as the caller says. A store that is down, hung or
broken costs it patience and nothing more: what is not sent stays on disk, where this or a later process finds it.
"""

import logging
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from bridge_common import trial_files
from mlflow_utils import names
from mlflow_utils.declarations import Declared, Phase, Trial
from mlflow_utils.sync.runs import PhaseLine, TrialLine
from mlflow_utils.sync.sent_state import store_key
from mlflow_utils.sync.store import GoneError, RefusedError, Store, UnavailableError
from mlflow_utils.sync.synced_run import SyncedRun

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between looks at the spools
PATIENCE = 30.0  # most seconds between attempts to reach a store


class Sender(threading.Thread):
    """Sends what is declared and on disk until told to stop; one process at a time for a campaign."""

    def __init__(
        self, tracking_uri: str, campaign: str, folder: Path, declared: Declared, guard: threading.Lock
    ) -> None:
        """Nothing is opened or imported before `start`.

        Args:
            tracking_uri: the MLflow store.
            campaign: name of the experiment.
            folder: the campaign's folder; artifacts of a store without a server go beside it.
            declared: what to send; it may grow while the thread runs, under `guard`.
            guard: lock of `declared`.
        """
        super().__init__(name=f"mlflow-sender-{campaign}", daemon=True)
        self._uri, self._campaign, self._folder = tracking_uri, campaign, folder
        self._declared, self._guard = declared, guard
        self._key = store_key(tracking_uri)
        self._phases: dict[str, PhaseLine] = {}
        self._trials: dict[tuple[str, str], TrialLine] = {}
        self._store: Store | None = None
        self._greeted = False
        self._wake = threading.Event()
        self._draining = threading.Event()
        self._halted = threading.Event()
        self._delay = INTERVAL
        self.reason: str | None = None  # why the last round did not get through

    def nudge(self) -> None:
        """Look at once instead of at the next interval."""
        self._wake.set()

    def drain(self, timeout: float) -> None:
        """Send what is there and end, within `timeout` seconds; a request in flight is left to itself."""
        self._draining.set()
        self.nudge()
        if self.ident is not None:
            self.join(timeout)
        self._halted.set()
        self.nudge()

    def run(self) -> None:
        """The thread's work; no error leaves it, each becomes the reason for what stays unsent."""
        lock = FileLock(self._folder / names.SENDER_LOCK)
        while not self._halted.is_set():
            last_round = self._draining.is_set()
            try:
                with lock.acquire(timeout=0):
                    reason = self._rounds()
                    last_round = last_round or self._draining.is_set()
            except Timeout:
                reason = "another process is sending this campaign's records"
            self._report(reason)
            if last_round and reason is None:
                return
            self._delay = min(PATIENCE, self._delay * 2)
            self._pause(INTERVAL if last_round else self._delay)

    def _rounds(self) -> str | None:
        """Rounds until all is sent and the thread is to end (None), or until one fails (why)."""
        while not self._halted.is_set():
            draining = self._draining.is_set()
            try:
                problem = self._round()
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
        """Say once that the store cannot be reached, and once that it can again."""
        if reason and not self.reason:
            logger.warning("MLflow: %s. Records are kept in %s and sent later.", reason, self._folder)
        elif self.reason and not reason:
            logger.warning("MLflow answers again.")
        self.reason = reason

    def _round(self) -> str | None:
        """Bring every run up to date; a problem of one run does not hold up the others and is returned."""
        with self._guard:
            phases, trials = list(self._declared.phases.values()), list(self._declared.trials.items())
        if not phases:
            return None
        if self._store is None:
            self._store = Store(self._uri, self._campaign, self._folder.resolve().parent / "mlartifacts")
        for phase in phases:
            self._phases.setdefault(phase.name, PhaseLine(self._folder, self._key, phase))
        for key, trial in trials:
            if key not in self._trials:
                self._trials[key] = TrialLine(self._key, trial)
        if not self._greeted:
            self._greet(self._store)
        problem = None
        for phase in phases:
            children = [(self._trials[key], trial) for key, trial in trials if trial.phase == phase.name]
            problem = self._ship(self._store, phase, children) or problem
        return problem

    def _greet(self, store: Store) -> None:
        """Find out which runs the store has lost since they were sent: another database stands under the same name."""
        there = store.run_ids()
        for line in (*self._phases.values(), *self._trials.values()):
            if line.sent.run_id is not None and line.sent.run_id not in there:
                line.forget()
        self._greeted = True

    def _ship(self, store: Store, phase: Phase, children: list[tuple[TrialLine, Trial]]) -> str | None:
        """Send one phase: its run, then its trials', then its end, so that no child outlives its parent."""
        ended = (phase.status, phase.ended or time.time()) if phase.status in trial_files.FINAL else None
        line = self._phases[phase.name]
        try:
            parent = line.ship(store, phase, closing=False)
        except (GoneError, RefusedError) as error:
            return self._problem(line, error)
        problem = None
        for child, trial in children:
            if self._halted.is_set():
                return "stopped before everything was sent"
            try:
                child.ship(store, trial, parent, ended, self._halted.is_set)
            except (GoneError, RefusedError, OSError, ValueError, KeyError) as error:
                problem = self._problem(child, error)
        line.ship(store, phase, closing=True)
        return problem

    def _problem(self, line: SyncedRun, error: Exception) -> str:
        """Note what one run suffers from; a run that is gone is made anew in the next round."""
        if isinstance(error, GoneError):
            line.forget()
        else:
            logger.debug("sending one run failed", exc_info=error)
        return f"{line.name}: {type(error).__name__}: {error}"
