"""How long a campaign's trials have run so far, over all attempts, read from their event logs as these grow."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge_common import trial_files
from bridge_common.trial_folder import TrialFolder
from ray_bridge import RunSpec

_SHOWN = ("loss/total", "validation/accuracy/bridged", "accuracy/bridged")


@dataclass
class TrialLog:
    """A trial's event log as far as it has been read.

    Attributes:
        trial: the trial's folder.
        status: the last status, or None.
        began: when the last attempt began, in seconds since 1970; None if none runs.
        first_step: the step and the time of the first metrics of this attempt, or None.
        step: the last step that was recorded.
        last: time of the last event.
        values: the last value of each metric that is shown of a running trial.
        tags: facts about the run, such as its node.
    """

    trial: TrialFolder
    status: str | None = None
    began: float | None = None
    first_step: tuple[int, float] | None = None
    step: int = 0
    last: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    _ended: float = 0.0
    _position: int = 0

    def read(self) -> "TrialLog":
        """Read what is new, and return the log."""
        while True:
            events, position = self.trial.events_from(self._position)
            for event in events:
                self._add(event)
            if position == self._position:
                return self
            self._position = position

    @property
    def reused(self) -> bool:
        """Whether the records were copied from another campaign, which has paid for them."""
        return "reused_from" in (self.trial.result() or {})

    def seconds(self, now: float | None = None) -> float:
        """Return the seconds of all attempts.

        Args:
            now: end of an attempt that still runs; the last event's time if None, as after a driver's death.
        """
        open_attempt = 0.0 if self.began is None else (self.last if now is None else now) - self.began
        return self._ended + max(0.0, open_attempt)

    def _add(self, event: Mapping[str, Any]) -> None:
        when = float(event.get("time", self.last))
        if event.get("kind") == "status":
            self.status = event["status"]
            if self.began is not None:
                self._ended += max(0.0, (self.last if self.status == trial_files.RUNNING else when) - self.began)
            self.began = when if self.status == trial_files.RUNNING else None
            self.first_step = None
        elif event.get("kind") == "metrics":
            self.step = int(event["step"])
            if self.first_step is None:
                self.first_step = (self.step, when)
            self.values |= {name: value for name, value in event["values"].items() if name in _SHOWN}
        elif event.get("kind") == "tags":
            self.tags |= event["values"]
        self.last = when


class Usage:
    """The event logs of a campaign's trials."""

    def __init__(self, trials: Iterable[TrialFolder]) -> None:
        self._logs = {trial.name: TrialLog(trial) for trial in trials}

    def add(self, trial: TrialFolder) -> None:
        """Follow one more trial."""
        self._logs.setdefault(trial.name, TrialLog(trial))

    def read(self, name: str) -> TrialLog:
        """Return a trial's log after reading what is new in it."""
        return self._logs[name].read()

    def gpu_hours(self, run: RunSpec, running: Iterable[str], now: float | None = None) -> float:
        """Return the GPU-hours of all attempts of all trials; 0 for a run on CPUs.

        Args:
            run: workers of each trial.
            running: names of the trials that run now.
            now: the present time, in seconds since 1970.
        """
        if not run.use_gpu:
            return 0.0
        now, live = time.time() if now is None else now, set(running)
        begun = [log for log in map(self.read, list(self._logs)) if log.last and not log.reused]
        return sum(log.seconds(now if log.trial.name in live else None) for log in begun) * run.workers / 3600
