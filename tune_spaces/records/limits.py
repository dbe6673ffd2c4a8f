"""Limits of a start: a time by which it must have ended, and GPU-hours that the campaign may use in all.

Nothing starts that cannot end within them, by the plan's estimates; what still runs at a limit is stopped, and goes on
from its last checkpoint at the next start.
"""

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import RunSpec
from tune_spaces.records.campaign_folder import CampaignFolder
from tune_spaces.records.usage import Usage

READ_EVERY_S = 2.0
_AFTER = re.compile(r"\+(\d+(?:\.\d+)?)([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a start; None is no limit.

    Attributes:
        gpu_hours: GPU-hours of all attempts of the campaign, those of earlier starts included.
        until: time by which the start must have ended, in seconds since 1970.
    """

    gpu_hours: float | None = None
    until: float | None = None

    def check(self, run: RunSpec) -> None:
        """Refuse limits that mean nothing.

        Raises:
            UserError: a time that has passed, or GPU-hours of a run without GPUs.
        """
        if self.until is not None and self.until <= time.time():
            raise UserError(f"until {_clock(self.until)}: that time has passed; give a later one, such as +8h")
        if self.gpu_hours is not None and not run.use_gpu:
            raise UserError("a limit of GPU-hours needs a run on GPUs; use --until, or --set use_gpu=true")
        if self.gpu_hours is not None and self.gpu_hours <= 0:
            raise UserError(f"max-gpu-hours {self.gpu_hours:g}: use a number above 0")


def parse_until(text: str, now: datetime | None = None) -> float:
    """Return the time of `18:30` (the next one), `2026-11-27T06:00`, or `+90m`, `+8h`, `+2d` from now.

    Args:
        text: the time.
        now: the present time.

    Returns:
        Seconds since 1970.

    Raises:
        UserError: if it is anything else.
    """
    now = now or datetime.now().astimezone()
    if match := _AFTER.fullmatch(text):
        try:
            return (now + timedelta(seconds=float(match[1]) * _SECONDS[match[2]])).timestamp()
        except OverflowError:  # after the year 9999
            return _refuse(text)
    if re.fullmatch(r"\d\d?:\d\d", text):
        hour, minute = map(int, text.split(":"))
        if hour < 24 and minute < 60:
            then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return (then if then > now else then + timedelta(days=1)).timestamp()
    try:
        return datetime.fromisoformat(text).astimezone().timestamp() if "T" in text or " " in text else _refuse(text)
    except ValueError:
        return _refuse(text)


def _refuse(text: str) -> float:
    raise UserError(f"until {text}: give 18:30, 2026-11-27T06:00, or +90m, +8h, +2d")


class LimitKeeper:
    """Says what may still start, and whether a limit is reached.

    Attributes:
        reason: why something did not start or was stopped, in words; None so far.
    """

    def __init__(self, limits: Limits, campaign: CampaignFolder, run: RunSpec) -> None:
        self.limits, self.run, self.campaign = limits, run, campaign
        self.reason: str | None = None
        self._estimates: dict[str, float] = {}
        self._lock = threading.Lock()  # the search asks, and the thread that follows the run
        self._known, self._read_after = 0.0, 0.0
        self._usage = Usage(())
        self._read_plan()

    def fits(self, name: str, running: Mapping[str, float], now: float | None = None) -> bool:
        """Return whether a trial that starts now would end within the limits.

        Args:
            name: the trial.
            running: when each running trial was started, in seconds since 1970, by name.
            now: the present time.
        """
        at = time.time() if now is None else now
        if name not in self._estimates:  # a search has proposed it since
            self._read_plan()
        own = self._estimates.get(name, 0.0)
        if self.limits.until is not None and at + own > self.limits.until:
            self.reason = f"{name} takes about {own / 60:.0f} minutes and would end after {_clock(self.limits.until)}"
            return False
        if self.limits.gpu_hours is None:
            return True
        left = sum(max(0.0, self._estimates.get(other, 0.0) - (at - since)) for other, since in running.items())
        expected = self._used(running, now) + (own + left) * self.run.workers / 3600
        if expected > self.limits.gpu_hours:
            self.reason = (
                f"{name} would bring the campaign to about {expected:.1f} of {self.limits.gpu_hours:g} GPU-hours"
            )
            return False
        return True

    def _read_plan(self) -> None:
        plan: Mapping[str, Any] = self.campaign.plan() or {"trials": []}
        with self._lock:
            self._estimates = {row["name"]: 60.0 * row["minutes"] for row in plan["trials"]}
            for name in self._estimates:
                self._usage.add(self.campaign.trial(name))

    def reached(self, running: Mapping[str, float], now: float | None = None) -> bool:
        """Return whether a limit is reached, so that what runs has to stop. Arguments are those of `fits`."""
        if self.limits.until is not None and (time.time() if now is None else now) >= self.limits.until:
            self.reason = f"the time {_clock(self.limits.until)} is reached"
            return True
        if self.limits.gpu_hours is not None:
            used = self._used(running, now)
            if used >= self.limits.gpu_hours:
                self.reason = f"{used:.1f} of {self.limits.gpu_hours:g} GPU-hours are used"
                return True
        return False

    def _used(self, running: Mapping[str, float], now: float | None) -> float:
        """Return the GPU-hours used so far; those of the present time are read from the logs every few seconds."""
        with self._lock:
            if now is not None:
                return self._usage.gpu_hours(self.run, running, now)
            if time.monotonic() >= self._read_after:
                self._known = self._usage.gpu_hours(self.run, running)
                self._read_after = time.monotonic() + READ_EVERY_S
            return self._known


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
