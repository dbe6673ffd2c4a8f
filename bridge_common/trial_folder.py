"""The folder of one trial: the paths of its files, what they say, and the writes that several packages share.

Driver, job, recorder and reports exchange data through this folder alone. A trial is finished once it has a whole
`result.json`, because that file is written last; nothing else says so.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common import event_log, files, trial_files
from bridge_common.errors import UserError

REMEDY = "resume its campaign, which writes it again"
_ABOUT: dict[str, type] = {"variant": str, "phase": str, "fingerprint": str, "seed": int, "code": list}
"""Kinds of what `spec.json` says of a trial, if it says it."""


@dataclass(frozen=True, order=True)
class TrialFolder:
    """A trial's folder, which need not exist yet. Every read goes to the disk, and only for what was asked.

    Attributes:
        path: STORAGE/CAMPAIGN/trials/NAME.
    """

    path: Path

    @classmethod
    def of(cls, campaign: Path, name: str) -> "TrialFolder":
        """Return the folder of a campaign's trial, by the trial's name."""
        return cls(Path(campaign) / trial_files.TRIALS / name)

    @classmethod
    def begun_in(cls, campaign: Path) -> list["TrialFolder"]:
        """Return the folders of a campaign's trials that have begun, in the order of their names."""
        return sorted(cls(path.parent) for path in Path(campaign).glob(f"{trial_files.TRIALS}/*/{trial_files.SPEC}"))

    @classmethod
    def finished_under(cls, storage: Path) -> list["TrialFolder"]:
        """Return the folders of finished trials of all campaigns in a storage, in the order of their paths."""
        pattern = f"*/{trial_files.TRIALS}/*/{trial_files.RESULT}"
        return [cls(path.parent) for path in sorted(Path(storage).glob(pattern))]

    @property
    def name(self) -> str:
        """Name of the trial: its variant and the first 8 digits of its fingerprint."""
        return self.path.name

    # -- files --------------------------------------------------------------------------------------------------------

    @property
    def spec_file(self) -> Path:
        """`spec.json`: what the trial is, written before it runs."""
        return self.path / trial_files.SPEC

    @property
    def events_file(self) -> Path:
        """`events.jsonl`: metrics by step, statuses, tags and artifacts, in the order in which they came."""
        return self.path / trial_files.EVENTS

    @property
    def samples_file(self) -> Path:
        """`samples.jsonl`: one row a test example, as the final evaluation scored it."""
        return self.path / trial_files.SAMPLES

    @property
    def metrics_file(self) -> Path:
        """`metrics.json`: the metrics of the final evaluation."""
        return self.path / trial_files.METRICS

    @property
    def result_file(self) -> Path:
        """`result.json`: metrics, node, seconds and checkpoint, written last."""
        return self.path / trial_files.RESULT

    @property
    def error_file(self) -> Path:
        """`error.json`: why the job failed, until it succeeds."""
        return self.path / trial_files.ERROR

    @property
    def stopped_file(self) -> Path:
        """`stopped.json`: at which step a sweep's scheduler ended the trial, and how good it was until then."""
        return self.path / trial_files.STOPPED

    @property
    def sent_file(self) -> Path:
        """`events.sent.json`: what MLflow stores have of this trial."""
        return self.path / trial_files.SENT

    # -- reads --------------------------------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether the trial was started or reused here: its `spec.json` exists."""
        return self.spec_file.is_file()

    @property
    def finished(self) -> bool:
        """Whether the trial has a result. One that a full disk cut off is none: the job goes on and ends it."""
        return self.result() is not None

    @property
    def has_selected(self) -> bool:
        """Whether training has ended: the checkpoint that scored best on the validation examples is in `selected/`."""
        return (self.path / trial_files.SELECTED / trial_files.SELECTED_RECORD).is_file()

    def require_selected(self) -> None:
        """Refuse a trial that has no translator yet.

        Raises:
            UserError: if no checkpoint has been selected yet.
        """
        if not self.has_selected:
            raise UserError(
                f"{self.name} has selected no checkpoint yet: it is written when training ends; wait for that, or "
                "`resume` its campaign"
            )

    @property
    def stopped_early(self) -> bool:
        """Whether a sweep's scheduler ended the trial, which therefore never gets a result.

        A record of it that a full disk cut off is none: the trial goes on, and the scheduler decides again.
        """
        return not self.finished and self.stopped() is not None

    @property
    def failed(self) -> bool:
        """Whether the trial has no result and its last attempt raised an error."""
        return not self.finished and not self.stopped_early and self.error_file.is_file()

    @property
    def status(self) -> str | None:
        """FINISHED or FAILED, or None if the trial runs, was stopped or has not begun."""
        return trial_files.FINISHED if self.finished else trial_files.FAILED if self.failed else None

    @property
    def samples(self) -> Path | None:
        """Path of `samples.jsonl`, or None if it was not written yet."""
        return self.samples_file if self.samples_file.is_file() else None

    def spec(self) -> dict[str, Any] | None:
        """Read `spec.json`: variant, phase, seed, fingerprint, `spec` and `run`; None if the trial has not begun.

        Raises:
            UserError: if the file is damaged.
        """
        record = _read(self.spec_file, part="spec")
        if record is None:
            return None
        for name, kind in _ABOUT.items():
            if not isinstance(record.get(name), kind | None):
                raise UserError(f"{self.spec_file} is damaged (its {name}): {REMEDY}")
        return record

    def result(self) -> dict[str, Any] | None:
        """Read `result.json`, or return None if the trial has not finished or the file is damaged."""
        record = _read_or_none(self.result_file, part="metrics")
        return record if record is None or _has_numbers(record) else None

    def error(self) -> dict[str, Any] | None:
        """Read `error.json`; None if there was no error.

        It has `error`, the cause in one line; `traceback`, which ends with that line; `attempt`; and `refused`, whether
        the job refused what was asked of it (`UserError`), missing in records of earlier versions. Of a file that is
        damaged it says so, as of no attempt: the trial has failed all the same.
        """
        try:
            return _read(self.error_file)
        except UserError as error:
            return {"error": str(error), "traceback": "", "attempt": ""}

    def stopped(self) -> dict[str, Any] | None:
        """Read `stopped.json`: `step` and `validation_accuracy`; None if it is not there or damaged."""
        return _read_or_none(self.stopped_file)

    def stop_requested(self) -> bool:
        """Return whether the job is asked to write a checkpoint and end."""
        return (self.path / trial_files.STOP).exists()

    def fingerprint(self) -> str | None:
        """Return the fingerprint that result or spec records, or None if neither does."""
        for read in (self.result, self.spec):
            if (record := read()) and record.get("fingerprint"):
                return str(record["fingerprint"])
        return None

    def events(self) -> list[dict[str, Any]]:
        """Read all whole events at once; `stream_events` holds a part at a time."""
        return list(self.stream_events())

    def stream_events(self, start: int = 0, until: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield all whole events, or those between two byte positions (`event_log.stream`)."""
        return event_log.stream(self.events_file, start, until)

    def events_from(self, position: int) -> tuple[list[dict[str, Any]], int]:
        """Read the next whole events from a byte position on, and the position after them (`event_log.read`)."""
        return event_log.read(self.events_file, position)

    # -- writes -------------------------------------------------------------------------------------------------------

    def begin(self, record: Mapping[str, Any]) -> None:
        """Make the folder with its `spec.json`, so that readers know what the trial is before anything has run.

        An earlier request that it stop is removed.
        """
        (self.path / trial_files.STOP).unlink(missing_ok=True)
        files.write_json(self.spec_file, dict(record))

    def append_status(self, status: str) -> None:
        """Append a status to the events; the folder is made if needed."""
        self.path.mkdir(parents=True, exist_ok=True)
        files.append_jsonl(self.events_file, {"kind": "status", "time": time.time(), "status": status})

    def append_tags(self, values: Mapping[str, str]) -> None:
        """Append facts about the run to the events."""
        files.append_jsonl(self.events_file, {"kind": "tags", "time": time.time(), "values": dict(values)})

    def write_result(self, record: Mapping[str, Any]) -> None:
        """Write `result.json`, which makes the trial finished."""
        files.write_json(self.result_file, dict(record))

    def write_error(self, record: Mapping[str, Any]) -> None:
        """Write `error.json`."""
        files.write_json(self.error_file, dict(record))

    def write_stopped(self, record: Mapping[str, Any]) -> None:
        """Write `stopped.json`."""
        files.write_json(self.stopped_file, dict(record))

    def request_stop(self) -> None:
        """Ask the job to write a checkpoint and end; it goes on from there when the trial begins again."""
        files.write_text(self.path / trial_files.STOP, f"{time.time()}\n")

    def clear_error(self) -> None:
        """Remove `error.json` if there is one."""
        self.error_file.unlink(missing_ok=True)


def _has_numbers(result: Mapping[str, Any]) -> bool:
    """Return whether metrics and times of a result are numbers, where there are any."""
    timings = result.get("timings", {})
    if not isinstance(timings, dict):
        return False
    values = (*result["metrics"].values(), *timings.values(), result.get("seconds"))
    return all(value is None or isinstance(value, int | float) for value in values)


def _read_or_none(path: Path, part: str | None = None) -> dict[str, Any] | None:
    try:
        return _read(path, part)
    except UserError:
        return None


def _read(path: Path, part: str | None = None) -> dict[str, Any] | None:
    """Read an object; None if there is no file.

    Args:
        path: the file.
        part: name of an object that it must hold.

    Raises:
        UserError: if the file is damaged.
    """
    record = files.read_object(path, REMEDY) if path.is_file() else None
    if record is not None and part is not None and not isinstance(record.get(part), dict):
        raise UserError(f"{path} is damaged (no {part}): {REMEDY}")
    return record
