"""Read the present state of a campaign's trials from its folder, on any machine that sees the folder."""

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bridge_common import heartbeat, metric_names, trial_files
from tune_spaces.campaign import Campaign
from tune_spaces.gate.policy import Policy
from tune_spaces.records.usage import TrialLog, Usage

ORDER = (
    "running",
    "starting",
    "stopped",
    "failed",
    "stopped early",
    "finished",
    "reused",
    "ready",
    "waits for the gate",
)
QUIET_S = 60.0  # seconds without a sign of life that are shown


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """One trial at one moment.

    Attributes:
        name: of the trial.
        variant: of the trial.
        seed: of the trial.
        state: one of `ORDER`.
        node: host on which it runs or ran, or None if it is not known.
        step: last recorded step.
        steps: steps in all.
        accuracy: of the test items, or of the validation examples so far; None if nothing was evaluated.
        on_test: whether that accuracy is of the test items.
        seconds: of all attempts.
        left: estimated seconds until it ends; 0 if it has ended.
        note: for how long it has given no sign of life, in words; "" if it does or does not run.
    """

    name: str
    variant: str
    seed: int
    state: str
    node: str | None
    step: int
    steps: int
    accuracy: float | None
    on_test: bool
    seconds: float
    left: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A campaign at one moment.

    Attributes:
        trials: planned trials that run, have run, or may still run.
        driven: whether a process runs the campaign.
        slots: jobs that fit the cluster at once, or None if no process runs the campaign.
        without_place: jobs that were started and wait for their resources.
        left_to: campaign of the cluster that gets the next free place, if this one would take it otherwise.
        gpu_hours: used so far.
        left: estimated seconds until all trials that are needed so far have ended.
    """

    trials: tuple[TrialState, ...]
    driven: bool
    slots: int | None
    without_place: int
    left_to: str | None
    gpu_hours: float
    left: float

    def counts(self) -> dict[str, int]:
        """Return the number of trials in each state that occurs."""
        states = [trial.state for trial in self.trials]
        return {state: states.count(state) for state in ORDER if state in states}


class Watcher:
    """Makes snapshots of a campaign; each reads only what is new in the trials' logs."""

    def __init__(self, campaign: Campaign, driven: Callable[[], bool] | None = None) -> None:
        """Read the plan.

        Args:
            campaign: what is watched.
            driven: whether a process runs the campaign; by default its lock in the folder says so.
        """
        self.campaign, self._driven = campaign, driven or campaign.records.is_driven
        self.usage = Usage(())
        self._read_plan()

    def snapshot(self, now: float | None = None) -> Snapshot:
        """Return the present state of all trials.

        Args:
            now: the present time, in seconds since 1970.
        """
        now = time.time() if now is None else now
        if self.campaign.phase.search is not None:  # it may have proposed more
            self.campaign = Campaign.load(self.campaign.storage, self.campaign.name)
            self._read_plan()
        records, policy = self.campaign.records, self.campaign.policy()
        driven, schedule = self._driven(), records.schedule() or {}
        running = schedule.get("running", {}) if driven else {}
        trials = [self._state(name, policy, running, now) for name in self.campaign.plan.trials]
        shown = tuple(trial for trial in trials if trial is not None)
        slots = max(1, len(running), schedule.get("slots", 1)) if driven else 1
        if driven and schedule.get("parallel") not in (None, "auto"):
            slots = max(1, min(int(schedule["parallel"]), slots))
        lefts = [trial.left for trial in shown if trial.state != "waits for the gate"]
        live = [trial.name for trial in shown if trial.state == "running"]
        return Snapshot(
            trials=shown,
            driven=driven,
            slots=schedule.get("slots") if driven else None,
            without_place=schedule.get("without_place", 0) if driven else 0,
            left_to=schedule.get("left_to") if driven else None,
            gpu_hours=self.usage.gpu_hours(self.campaign.run_spec, live, now),
            left=makespan([*lefts, *[self._proposed] * policy.proposals], slots),
        )

    def _read_plan(self) -> None:
        plan = self.campaign.records.plan() or {"trials": []}
        self._estimates = {row["name"]: 60.0 * row["minutes"] for row in plan["trials"]}
        self._proposed = 60.0 * (plan.get("search") or {"minutes": 0.0})["minutes"]  # seconds of a trial to come
        for name in self.campaign.plan.trials:
            self.usage.add(self.campaign.trial(name))

    def _state(self, name: str, policy: Policy, running: dict[str, float], now: float) -> TrialState | None:
        trial, folder, log = self.campaign.plan.trials[name], self.campaign.trial(name), self.usage.read(name)
        result = folder.result()
        ready = name in policy.wanted()
        if result is not None:
            state = "reused" if "reused_from" in result else "finished"
        elif name in running:
            state = "running" if log.status == trial_files.RUNNING else "starting"
        elif folder.stopped_early:
            state = "stopped early"
        elif folder.failed:
            state = "failed"
        elif folder.begun:
            state = "stopped"
        elif ready:
            state = "ready"
        elif policy.branches and not policy.finished:
            state = "waits for the gate"
        else:
            return None
        accuracy, on_test = _accuracy(result, log)
        seconds = log.seconds(now if state == "running" else None)
        return TrialState(
            name=name,
            variant=trial.variant,
            seed=trial.seed,
            state=state,
            node=log.tags.get("node"),
            step=trial.spec.steps if result is not None else log.step,
            steps=trial.spec.steps,
            accuracy=accuracy,
            on_test=on_test,
            seconds=seconds,
            left=self._left(name, state, log, seconds, now),
            note=no_step(self.campaign, name, now) if state == "running" else "",
        )

    def _left(self, name: str, state: str, log: TrialLog, seconds: float, now: float) -> float:
        """Estimate a trial's remaining seconds: by its own speed once two of its steps are known."""
        if state in ("finished", "reused", "failed", "stopped early"):
            return 0.0
        whole = self._estimates.get(name, 0.0)
        if state == "running" and log.first_step is not None and log.step > log.first_step[0]:
            step, when = log.first_step
            speed = (log.last - when) / (log.step - step)
            return max(0.0, (self.campaign.plan.trials[name].spec.steps - log.step) * speed - (now - log.last))
        return max(0.0, whole - seconds)


def no_step(campaign: Campaign, name: str, now: float) -> str:
    """Return for how long a running trial has given no sign of life, in words; "" if it did lately.

    Args:
        campaign: the trial's campaign.
        name: the trial's name in the plan.
        now: the present time, in seconds since 1970.
    """
    quiet = heartbeat.seconds_without_sign(campaign.trial(name).path, now)
    timeout = campaign.run_spec.progress_timeout or QUIET_S
    return "" if quiet is None or quiet < min(QUIET_S, timeout / 2) else f"no step for {quiet:.0f} s"


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Return when the last of several jobs ends if each starts, in order, as soon as a slot is free."""
    busy = [0.0] * max(1, slots)
    for length in seconds:
        heapq.heapreplace(busy, busy[0] + length)
    return max(busy)


def _accuracy(result: dict[str, Any] | None, log: TrialLog) -> tuple[float | None, bool]:
    name = metric_names.accuracy("bridged")
    if result is not None:
        return result["metrics"].get(name), True
    return log.values.get(f"validation/{name}"), False
