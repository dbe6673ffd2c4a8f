"""Show a campaign's progress while it runs: a live bar at a terminal, lines of text in a job's log.

It reads the trials' event logs, which any process that sees the storage could do; the campaign takes no part in it.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TextIO

from bridge_common import heartbeat, metric_names, trial_files
from bridge_common.threads import repeating
from bridge_common.trial_folder import TrialFolder
from cluster.monitoring.text import WIDTH, accuracy_in_words, unbroken, wrapped
from cluster.monitoring.tracking import tracking_uri_of
from cluster.program import command
from mlflow_utils.pages import campaign_url
from tune_spaces.campaign import Campaign
from tune_spaces.design.plan import PlannedTrial

POLL = 0.5
LINE_EVERY = 10.0
LOSS, VALIDATION, TEST = "loss/total", "validation/accuracy/bridged", "accuracy/bridged"
SPEED = "seconds_per_step"
ENDED = {trial_files.FINISHED: "finished", trial_files.KILLED: "stopped"}


@dataclass
class Watched:
    """A trial with the byte up to which its event log was read, and what was shown of it."""

    trial: PlannedTrial
    folder: TrialFolder
    position: int = 0
    step: int = 0
    last_line: float = 0.0
    task: Any = None

    @property
    def label(self) -> str:
        """The trial's name on screen."""
        return f"{self.trial.variant} (seed {self.trial.seed})"


class Progress:
    """Shows a campaign's progress while the body of `with` runs it."""

    def __init__(self, campaign: Campaign, out: TextIO | None = None) -> None:
        self.campaign, self.out = campaign, out or sys.stdout
        self._watched: dict[str, Watched] = {}
        self._reader = repeating(POLL, self._show_new_events, "progress")
        self._bars: Any = None
        self._waiting = ""
        self._address: str | None = None
        # Events of an earlier start are not shown again.
        for name in campaign.plan.trials:
            events = campaign.trial(name).events_file
            if events.is_file():
                self._add(name).position = events.stat().st_size

    def __enter__(self) -> "Progress":
        if self.out.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self.out),
            )
            self._bars.start()
        self._print(f"campaign {self.campaign.name} in {unbroken(self.campaign.folder)}")
        self._print(f"card, written when it ends: {unbroken(self.campaign.folder / trial_files.CARD)}")
        self._reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(None, None, None)
        self._show_new_events()
        if self._bars:
            self._bars.stop()

    def _show_new_events(self) -> None:
        self._show_address()
        self._show_waiting()
        for name in self.campaign.plan.trials:
            folder = self.campaign.trial(name)
            if name not in self._watched and not folder.events_file.is_file():
                continue
            watched = self._watched.get(name) or self._add(name)
            events, watched.position = folder.events_from(watched.position)
            for event in events:
                self._show(watched, event)

    def _show_address(self) -> None:
        """Say where MLflow shows the campaign, as soon as its store has it."""
        if self._address is not None:
            return
        uri = tracking_uri_of(self.campaign)
        self._address = campaign_url(self.campaign.folder, uri)
        if self._address is not None:
            served = uri.startswith("http")
            ui = unbroken(command("ui", "--storage", self.campaign.storage))
            served_by = "" if served else f", served by: {ui}"
            self._print(f"MLflow{served_by}")
            self._write(self._address)

    def _show_waiting(self) -> None:
        """Say when trials begin to wait for room in the cluster, and whenever their number has changed."""
        schedule = self.campaign.records.schedule()
        waiting = waiting_line(schedule) if schedule else ""
        if waiting and waiting != self._waiting:
            self._print(waiting)
        self._waiting = waiting

    def _add(self, name: str) -> Watched:
        return self._watched.setdefault(name, Watched(self.campaign.plan.trials[name], self.campaign.trial(name)))

    def _show(self, watched: Watched, event: dict[str, Any]) -> None:
        if event.get("kind") == "status":
            self._show_status(watched, event["status"])
        elif event.get("kind") == "tags" and heartbeat.STALLED in event["values"]:
            self._print(f"{watched.label}: {event['values'][heartbeat.STALLED]}")
        elif event.get("kind") == "metrics":
            watched.step = int(event["step"])
            self._show_metrics(watched, event["values"])

    def _show_status(self, watched: Watched, status: str) -> None:
        self._print(f"{watched.label}: {_ended(watched.folder, status) or f'starts ({watched.trial.purpose})'}")
        if self._bars and status == trial_files.RUNNING and watched.task is None:
            total = watched.trial.spec.steps
            watched.task = self._bars.add_task(watched.label, total=total, completed=watched.step, state="starting")

    def _show_metrics(self, watched: Watched, values: dict[str, float]) -> None:
        if VALIDATION in values:
            self._print(f"{watched.label}: step {watched.step}: validation accuracy {values[VALIDATION]:.1%}")
        if LOSS not in values:
            return
        state = f"loss {values[LOSS]:.4f}"
        if self._bars:
            if watched.task is not None:
                self._bars.update(watched.task, completed=watched.step, state=state)
            return
        if time.monotonic() - watched.last_line >= LINE_EVERY:
            watched.last_line = time.monotonic()
            speed = f", {values[SPEED]:.2f} s/step" if SPEED in values else ""
            total = watched.trial.spec.steps
            self._print(f"{watched.label}: step {watched.step}/{total}, {state}{speed}")

    def _print(self, text: str) -> None:
        self._write(wrapped(f"{time.strftime('%H:%M:%S')} {text}", indent=" " * 9, width=self._width))

    @property
    def _width(self) -> int:
        return self._bars.console.width if self._bars else WIDTH

    def _write(self, line: str) -> None:
        if self._bars:
            self._bars.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, file=self.out, flush=True)


def waiting_line(schedule: Mapping[str, Any]) -> str:
    """Return what waits for room in the cluster, in words; empty if nothing does."""
    if count := schedule["without_place"]:
        started = len(schedule["running"])
        return f"{count} of {started} started trials wait for room: the cluster holds {schedule['slots']} at once"
    if elsewhere := schedule.get("elsewhere"):
        return "; ".join(f"{trial} waits for its result in campaign {other}" for trial, other in elsewhere.items())
    if (other := schedule.get("left_to")) and not schedule["running"]:
        return f"the next free place of the cluster goes to campaign {other}"
    return ""


def _ended(folder: TrialFolder, status: str) -> str | None:
    """Return how a trial ended, in one line: its accuracy, gain and minutes, or why it failed; None if it runs."""
    if status == trial_files.FAILED:
        return f"FAILED: {(folder.error() or {}).get('error', 'see its folder')}"
    result = folder.result()
    if status != trial_files.FINISHED or result is None:
        return ENDED.get(status)
    metrics = result["metrics"]
    parts = [f"finished, {accuracy_in_words(metrics[TEST], int(metrics.get(metric_names.N, 0)))}"]
    if metric_names.GAIN in metrics:
        parts.append(f"gain {100 * metrics[metric_names.GAIN]:+.1f}")
    if result.get("seconds"):
        parts.append(f"{result['seconds'] / 60:.1f} min")
    return ", ".join(parts)
