"""The folder of one campaign: the paths of its files, what they say, and the lock that admits one driver.

What was asked, planned, decided and measured can all be read from this folder, so a campaign needs no other state.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common import files, trial_files
from bridge_common.errors import UserError, reason_of
from bridge_common.heartbeat import is_stopped
from bridge_common.locks import is_locked
from bridge_common.trial_folder import TrialFolder
from bridge_common.user_files import special_kind
from ray_bridge import RunSpec, code_digest
from tune_spaces.design.plan import PlannedTrial

STOP, LOCK, DRIVER, EXPERIMENTS = "stop", ".lock", "driver.json", "tune"
SWEEP_RESULTS, PROPOSALS = "sweep-results.jsonl", "proposals.jsonl"
LOOK_S = 0.5
"""How long a start waits for the lock, which `is_driven` of another command holds for a moment."""
_COPY = "restore it from a copy, or start the campaign under another --name, which reuses finished trials"
_AGAIN = "remove it: the campaign writes it again once it is started again"


@dataclass(frozen=True, order=True)
class CampaignFolder:
    """A campaign's folder, which need not exist yet. Every read goes to the disk.

    Attributes:
        path: STORAGE/NAME.
    """

    path: Path

    @classmethod
    def all_in(cls, storage: Path) -> list["CampaignFolder"]:
        """Return the folders of all campaigns in a storage that were started, in the order of their names."""
        return sorted(cls(path.parent) for path in Path(storage).expanduser().glob(f"*/{trial_files.CAMPAIGN}"))

    @property
    def name(self) -> str:
        """Name of the campaign."""
        return self.path.name

    @property
    def storage(self) -> Path:
        """Folder of this and other campaigns."""
        return self.path.parent

    @property
    def experiments(self) -> Path:
        """Folder of Ray Tune's experiments, one per start."""
        return self.path / EXPERIMENTS

    # -- trials -------------------------------------------------------------------------------------------------------

    def trial(self, name: str) -> TrialFolder:
        """Return the folder of a trial by its name in the plan."""
        return TrialFolder.of(self.path, name)

    def begin(self, trial: PlannedTrial, run: RunSpec, code: list[str] | None = None) -> TrialFolder:
        """Make a planned trial's folder with its `spec.json`.

        Args:
            trial: what is planned.
            run: how it runs.
            code: digests of the code that trained it; by default those recorded for its steps until now, and this
                process's.
        """
        folder = self.trial(trial.name)
        if code is None:
            earlier, now = trained_by(folder), code_digest()
            code = earlier if earlier[-1:] == [now] else [*earlier, now]
        folder.begin(
            {
                "variant": trial.variant,
                "phase": trial.phase,
                "fingerprint": trial.fingerprint,
                "seed": trial.seed,
                "purpose": trial.purpose,
                "spec": trial.spec.model_dump(),
                "run": run.model_dump(),
                "code": code,
            }
        )
        return folder

    def begun_by_other_code(self, names: Iterable[str]) -> list[str]:
        """Return which of these trials have trained some steps, but not all, with another version of the code."""
        trials = map(self.trial, names)
        unfinished = [trial for trial in trials if trial.begun and not trial.finished and not trial.stopped_early]
        return [trial.name for trial in unfinished if trained_by(trial)[-1:] not in ([], [code_digest()])]

    def restore_specs(self, trials: Iterable[PlannedTrial], run: RunSpec) -> None:
        """Write `spec.json` of finished trials again if a full disk or a crash has damaged it.

        Args:
            trials: planned trials.
            run: how they run.
        """
        for trial in trials:
            folder = self.trial(trial.name)
            try:
                folder.spec()
            except UserError:
                if (result := folder.result()) is not None:
                    self.begin(trial, run, list(result.get("code", ())))

    # -- records ------------------------------------------------------------------------------------------------------

    @property
    def campaign_file(self) -> Path:
        """`campaign.json`: phase, base spec, run spec, seeds, gate, request, and every start."""
        return self.path / trial_files.CAMPAIGN

    @property
    def plan_file(self) -> Path:
        """`plan.json`: the frozen decision tree."""
        return self.path / trial_files.PLAN

    def campaign(self) -> dict[str, Any] | None:
        """Read `campaign.json`, or return None if the campaign was never started."""
        return _read(self.campaign_file, _COPY)

    def plan(self) -> dict[str, Any] | None:
        """Read `plan.json`, or return None if nothing was planned."""
        return _read(self.plan_file, _COPY)

    def require_begun(self) -> None:
        """Refuse a campaign that was started and of whose two records one is gone, or no file.

        Raises:
            UserError: with the record.
        """
        if os.path.lexists(self.campaign_file):
            for path in (self.campaign_file, self.plan_file):
                if not path.is_file():
                    raise UserError(f"{path} is {special_kind(path) or 'missing'}: {_COPY}")

    def gate(self) -> dict[str, Any] | None:
        """Read `gate.json`: settings, status, branch and decisions; None if the campaign was never started."""
        return _read(self.path / trial_files.GATE, _AGAIN)

    def schedule(self) -> dict[str, Any] | None:
        """Read `schedule.json`: what runs since when, and how many trials wait; None before the first has started."""
        return _read(self.path / trial_files.SCHEDULE, _AGAIN)

    def write_schedule(self, record: Mapping[str, Any]) -> None:
        """Replace `schedule.json`."""
        files.write_json(self.path / trial_files.SCHEDULE, dict(record))

    def write_campaign(self, record: Mapping[str, Any]) -> None:
        """Replace `campaign.json`."""
        files.write_json(self.campaign_file, dict(record))

    def write_plan(self, record: Mapping[str, Any]) -> None:
        """Replace `plan.json`."""
        files.write_json(self.plan_file, dict(record))

    def write_gate(self, record: Mapping[str, Any]) -> None:
        """Replace `gate.json`."""
        files.write_json(self.path / trial_files.GATE, dict(record))

    def sweep_results(self) -> list[dict[str, Any]]:
        """Read the results that a sweep's scheduler has judged, in that order: trial, step, validation accuracy."""
        return files.read_log(self.path / SWEEP_RESULTS)

    def add_sweep_result(self, record: Mapping[str, Any]) -> None:
        """Append a result that a sweep's scheduler judges."""
        files.append_jsonl(self.path / SWEEP_RESULTS, {"kind": "result", **record})

    def proposals(self) -> list[dict[str, Any]]:
        """Read what a sweep's search has proposed: number, name of the trial, the point as drawn."""
        return [row for row in files.read_log(self.path / PROPOSALS) if row["kind"] == "proposal"]

    def add_proposal(self, record: Mapping[str, Any]) -> None:
        """Append a proposal of a sweep's search."""
        files.append_jsonl(self.path / PROPOSALS, {"kind": "proposal", **record})

    def end_proposals(self) -> None:
        """Record that a sweep's search has no further point."""
        files.append_jsonl(self.path / PROPOSALS, {"kind": "end"})

    def proposals_ended(self) -> bool:
        """Return whether a sweep's search has no further point."""
        return any(row["kind"] == "end" for row in files.read_log(self.path / PROPOSALS))

    # -- driver -------------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the campaign's lock: this process is its only driver.

        The schedule of an earlier driver and a request that it stop are removed.

        Raises:
            UserError: another process runs the campaign.
        """
        from filelock import Timeout

        from bridge_common.locks import file_lock

        self.path.mkdir(parents=True, exist_ok=True)
        lock = file_lock(self.path / LOCK)
        try:
            lock.acquire(timeout=LOOK_S)
        except Timeout:
            raise UserError(
                f"campaign {self.name} is being run by {self.driver()}: wait for it, or `stop` it"
            ) from None
        try:
            driver = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
            files.write_json(self.path / DRIVER, driver)
            (self.path / STOP).unlink(missing_ok=True)
            (self.path / trial_files.SCHEDULE).unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def is_driven(self) -> bool:
        """Return whether a process runs the campaign now."""
        return is_locked(self.path / LOCK)

    def driver(self) -> str:
        """Return who runs the campaign, or ran it last, in words, and how to go on if it is stopped (SIGSTOP)."""
        driver = _read(self.path / DRIVER, _AGAIN) or {}
        pid, host = driver.get("pid", "?"), driver.get("host", "another host")
        stopped = host == socket.gethostname() and isinstance(pid, int) and is_stopped(pid)
        return f"process {pid} on {host}" + (f", which is stopped: `kill -CONT {pid}` lets it go on" * stopped)

    def record_stop(self, reason: str) -> None:
        """Record in `campaign.json` why the present start ended before its trials; its first reason stays.

        Args:
            reason: the signal's name, the limit, or that `stop` was called.
        """
        record = self.campaign()
        if record and record["starts"] and "stopped" not in record["starts"][-1]:
            record["starts"][-1]["stopped"] = {"time": time.time(), "reason": reason}
            self.write_campaign(record)

    def last_stop(self) -> str | None:
        """Return why the last start ended before its trials, as `record_stop` recorded it; None if it did not."""
        starts = (self.campaign() or {}).get("starts") or [{}]
        reason: str | None = starts[-1].get("stopped", {}).get("reason")
        return reason

    def request_stop(self) -> None:
        """Ask the driver to end, whatever host it runs on."""
        files.write_text(self.path / STOP, f"{time.time()}\n")

    def stop_requested(self) -> bool:
        """Return whether the driver was asked to end since it started."""
        return (self.path / STOP).exists()


def trained_by(trial: TrialFolder) -> list[str]:
    """Return the digests of the code that trained a trial until now, the latest last; none before its first step."""
    begun = any(event["kind"] == "metrics" and event["step"] > 0 for event in trial.stream_events())
    try:
        return list((trial.spec() or {}).get("code", ())) if begun else []
    except UserError:  # damaged: `begin` writes it again
        return []


@contextmanager
def whole_records(folder: CampaignFolder) -> Iterator[None]:
    """Turn what missing fields and values of another form in a campaign's two records lead to into one line.

    Raises:
        UserError: instead of it.
    """
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        files_there = f"{folder.campaign_file} or {folder.plan_file.name}"
        raise UserError(f"{files_there} is damaged ({reason_of(error)}): {_COPY}") from error


def _read(path: Path, remedy: str) -> dict[str, Any] | None:
    return files.read_object(path, remedy) if path.is_file() else None
