"""End jobs that hang: a worker, a trial's actor or a Train controller that is stopped, or that waits for ever.

Ray restarts what has died. Of what still exists but no longer gets on, such as a process that was stopped (SIGSTOP) or
that reads from a dead file server, Ray notices little, and the job holds its GPUs until somebody looks.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bridge_common import heartbeat
from bridge_common.heartbeat import STALLED, TRIAL, Beat
from bridge_common.trial_folder import TrialFolder
from tune_spaces.ray_tune.nodes import is_alive

RESTART_S = 120.0  # for Ray Train to start workers again in the place of killed ones
LOOK_S = 1.0  # seconds between two looks, unless the timeout asks for more of them
KILL_WITHIN_S = 30.0  # for a node to kill processes; a node that takes longer has died

Process = tuple[int, int]
"""A process's id, and when it began (`heartbeat.began`)."""


@dataclass
class Watched:
    """What was seen of a running trial.

    Attributes:
        state: what changes while the job gets on.
        since: when that changed last, by this process's monotonic clock.
        beats: the number of each process's last beat, and when that changed last.
        killed: whether its workers were killed since.
    """

    state: Any = None
    since: float = 0.0
    beats: dict[str, tuple[int, float]] = field(default_factory=dict)
    killed: bool = False


class StallWatch:
    """Checks the signs of life of running trials, and kills the processes of those that give none for too long.

    Ray Train starts killed workers again, and the job goes on from its checkpoint. If that does not help, or if it was
    not the workers that hung, the trial's actor is killed, which Tune starts again.
    Time is taken from this process's monotonic clock: it does not matter what a node's clock says.
    """

    def __init__(
        self,
        trials: Callable[[], Iterable[str]],
        folder: Callable[[str], TrialFolder],
        timeout_s: float | None,
        kill: "Callable[[str, Sequence[Process]], int] | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch nothing yet.

        Args:
            trials: returns the names of the trials that run now.
            folder: returns the folder of a trial.
            timeout_s: seconds without a sign after which a trial hangs; None or 0 to let all of them be.
            kill: ends processes on the node of that id and returns how many there were; by a task of Ray by default.
            clock: returns the present time in seconds.
        """
        self._trials, self._folder, self._timeout_s = trials, folder, timeout_s
        self._kill, self._clock = kill or kill_on_node, clock
        self._watched: dict[str, Watched] = {}

    @property
    def every_s(self) -> float:
        """Seconds between two looks."""
        return min(LOOK_S, self._timeout_s / 6) if self._timeout_s else LOOK_S

    def look(self) -> bool:
        """Look at every running trial once, and return whether no further look is needed."""
        if not self._timeout_s:
            return True
        running = set(self._trials())
        for name in self._watched.keys() - running:
            del self._watched[name]
        for name in running:
            with suppress(OSError):  # the storage is away: the next look may find it again
                self._look_at(name)
        return False

    def _look_at(self, name: str) -> None:
        trial, now = self._folder(name), self._clock()
        watched = self._watched.setdefault(name, Watched(since=now))
        beats = heartbeat.beats(trial.path)
        for beat in beats:
            if watched.beats.get(beat.name, (0, 0.0))[0] != beat.beats:
                watched.beats[beat.name] = (beat.beats, now)
        state = _state(beats, trial)
        if not beats or state != watched.state:
            watched.state, watched.since, watched.killed = state, now, False
        elif now - watched.since > max(float(self._timeout_s or 0), RESTART_S if watched.killed else 0.0):
            self._end(trial, beats, watched)
            watched.state, watched.since = _state(beats, trial), now  # what was reported is an event, but no sign

    def _end(self, trial: TrialFolder, beats: Sequence[Beat], watched: Watched) -> None:
        """Kill the workers of a trial that hangs, or else its actor; one that only waits for a place is left alone."""
        workers = [beat for beat in beats if beat.name != TRIAL and not beat.ended]
        starts = [beat for beat in beats if beat.name == TRIAL]
        silent = [beat for beat in beats if self._is_silent(beat, watched)]
        if workers and not watched.killed and not any(beat in silent for beat in starts):
            # Not its actor as well: a controller that dies while it starts workers again leaves their place reserved.
            watched.killed = self._kill_all(workers) > 0
            if watched.killed:
                self._report(trial, beats, silent)
            return  # else they have died before, and Ray Train looks for room for new ones
        if self._kill_all(starts):
            self._report(trial, beats, silent)
        heartbeat.clear(trial.path)  # until it starts again, which may take longer than the timeout, it is not watched

    def _report(self, trial: TrialFolder, beats: Sequence[Beat], silent: Sequence[Beat]) -> None:
        with suppress(OSError):  # a full disk
            trial.append_tags({STALLED: stall_line(float(self._timeout_s or 0), beats, silent)})

    def _is_silent(self, beat: Beat, watched: Watched) -> bool:
        """Return whether a process gives no sign of life any more."""
        return not beat.ended and self._clock() - watched.beats[beat.name][1] > float(self._timeout_s or 0) / 2

    def _kill_all(self, beats: Sequence[Beat]) -> int:
        nodes: dict[str, list[Process]] = {}
        for beat in beats:
            nodes.setdefault(beat.node_id, []).append((beat.pid, beat.began))
        return sum(self._kill(node_id, processes) for node_id, processes in nodes.items())


def stall_line(seconds: float, beats: Sequence[Beat], silent: Sequence[Beat]) -> str:
    """Return in one line which job hung where, and what is done about it.

    Args:
        seconds: for which there was no sign of life.
        beats: of all its processes.
        silent: of those that did not even beat: all others may have waited for them.
    """
    named = silent or [beat for beat in beats if beat.name != TRIAL] or list(beats)
    hosts = ", ".join(sorted({beat.host for beat in named}))
    ranks = ", ".join(str(beat.rank) for beat in silent if beat.rank is not None)
    who = f" (rank {ranks})" if ranks else " (the trial's actor)" if silent else ""
    return f"no step for {seconds:g} s on {hosts}{who}: killed, to start again from its checkpoint"


def kill_on_node(node_id: str, processes: Sequence[Process]) -> int:
    """Kill processes (SIGKILL also ends a stopped one) by a task on their node; return how many there were."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not is_alive(node_id):
        return 0
    task = ray.remote(kill_here).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
    )
    try:
        return int(ray.get(task.remote(list(processes)), timeout=KILL_WITHIN_S))
    except ray.exceptions.RayError:  # the node has died meanwhile, and its processes with it
        return 0


def kill_here(processes: Sequence[Process]) -> int:
    """Kill processes of this host and return how many there were; one that has ended since is none."""
    killed = 0
    for pid, began in processes:
        if heartbeat.began(pid) != began:
            continue
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed += 1
    return killed


def _state(beats: Sequence[Beat], trial: TrialFolder) -> Any:
    """Return what changes while a job gets on: its events, and the signs of its workers.

    As long as no worker has begun, the job may wait for a place for days; then its trial's beats count.
    """
    events = trial.events_file.stat().st_size if trial.events_file.is_file() else 0
    workers = [beat for beat in beats if beat.name != TRIAL]
    signs: Mapping[str, Any] = {beat.name: (beat.pid, beat.began, beat.signs, beat.ended) for beat in workers}
    return events, signs, None if workers else [beat.beats for beat in beats]
