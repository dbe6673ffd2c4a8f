"""Signs of life of a trial's processes, on disk: what each works on, when it last got on, whether it still answers.

Every process of a trial keeps one small file in the folder `heartbeats` of the trial's. A thread rewrites it every few
seconds (a *beat*), and what the process completes, such as a step or an evaluated batch, is counted in it (a *sign*).
Beats that end while signs do not come tell a stopped process from one that waits for others.

A trial's event log has far fewer signs: none while models load, frozen states are computed or test items are evaluated.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bridge_common import files, trial_files
from bridge_common.threads import repeating

TRIAL = "trial"  # name of the process that starts the job; workers are named by `worker_name`
LOADING = "loading"  # the work in which bytes that are read count as signs: weights load in one long call
READING = 1 << 20  # so many bytes since the last beat
BEAT_S = 5.0
STALLED = "stalled"  # tag of a trial that gave no sign for too long: when and where, in words


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a process last wrote about itself.

    Attributes:
        name: of the process in its trial.
        rank: of a worker; None of the process that starts the job.
        pid: its process id.
        began: when the process began, in the kernel's ticks; with `pid` it names one process for good.
        host: name of its host.
        node_id: Ray's id of its node, "" without Ray.
        beats: number of this record.
        signs: number of steps, evaluated batches and the like that it has completed.
        doing: what it works on, in a word or two.
        last_sign: time of the last sign, in seconds since 1970 by its host's clock.
        ended: whether it has done its part.
    """

    name: str
    rank: int | None
    pid: int
    began: int
    host: str
    node_id: str
    beats: int
    signs: int
    doing: str
    last_sign: float
    ended: bool


class Heartbeat:
    """Writes one process's beats; without a folder, such as in a job without Ray, it writes nothing."""

    def __init__(
        self,
        trial: Path | None,
        name: str = TRIAL,
        *,
        rank: int | None = None,
        node_id: str = "",
        doing: str = LOADING,
        every_s: float = BEAT_S,
    ) -> None:
        """Write nothing yet.

        Args:
            trial: the trial's folder.
            name: of the process in its trial.
            rank: of a worker.
            node_id: Ray's id of the node.
            doing: what it works on at first.
            every_s: seconds between two beats.
        """
        self._trial = trial
        self._who = {"name": name, "rank": rank, "pid": os.getpid(), "began": began(os.getpid()) or 0}
        self._who |= {"host": socket.gethostname(), "node_id": node_id}
        self._every_s, self._doing = every_s, doing
        self._beats, self._signs, self._last_sign, self._read = 0, 0, time.time(), 0

    def sign(self, doing: str) -> None:
        """Count something as completed; it is written with the next beat.

        Args:
            doing: what the process works on now.
        """
        self._doing = doing
        self._signs += 1
        self._last_sign = time.time()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Write signs of life while the body runs, and record at its end that this process has finished its part."""
        if self._trial is None:
            yield
            return
        self._beat()
        try:
            with repeating(self._every_s, self._beat, "heartbeat"):
                yield
        finally:
            self._beat(ended=True)

    def _beat(self, ended: bool = False) -> None:
        assert self._trial is not None
        read = _bytes_read()
        if self._doing == LOADING and read - self._read >= READING:
            self._signs += 1
            self._last_sign = time.time()
        self._read = read
        self._beats += 1
        record = Beat(
            **self._who,  # type: ignore[arg-type]
            beats=self._beats,
            signs=self._signs,
            doing=self._doing,
            last_sign=self._last_sign,
            ended=ended,
        )
        _write(self._trial, record)


def _write(trial: Path, beat: Beat) -> None:
    path = Path(trial) / trial_files.HEARTBEATS / f"{beat.name}.json"
    with suppress(OSError):  # a full disk or one that is away stops beats, never the job
        files.write_bytes(path, files.json_line(asdict(beat)).encode(), durable=False)


def interval(timeout_s: float | None) -> float:
    """Return the seconds between two beats if a process counts as hung after so many seconds; None or 0 is never."""
    return min(BEAT_S, timeout_s / 6) if timeout_s else BEAT_S


def worker_name(rank: int) -> str:
    """Return the name of a worker in its trial."""
    return f"rank-{rank}"


def clear(trial: Path) -> None:
    """Remove what processes of an earlier attempt have left."""
    for path in (Path(trial) / trial_files.HEARTBEATS).glob("*.json"):
        path.unlink(missing_ok=True)


def expect(trial: Path, workers: Iterable[Beat]) -> None:
    """Write a first beat for each worker that is given a trial, so that one that hangs before it begins is noticed.

    Args:
        trial: the trial's folder.
        workers: what they wrote about themselves before.
    """
    for worker in workers:
        first = replace(worker, beats=1, signs=0, doing=LOADING, last_sign=time.time(), ended=False)
        _write(trial, first)


def beats(trial: Path) -> list[Beat]:
    """Return the last beat of each process of a trial's present attempt, in the order of their names."""
    found = []
    for path in sorted((Path(trial) / trial_files.HEARTBEATS).glob("*.json")):
        try:
            found.append(Beat(**files.read_json(path)))
        except (OSError, ValueError, TypeError):  # gone, damaged, or of another version
            continue
    return found


def seconds_without_sign(trial: Path, now: float) -> float | None:
    """Return for how long no worker of a trial's present attempt has given a sign of life, by the hosts' clocks.

    Args:
        trial: the trial's folder.
        now: the present time, in seconds since 1970.

    Returns:
        The seconds; None if no worker has begun, or all have done their part.
    """
    workers = [beat for beat in beats(trial) if beat.name != TRIAL]
    if all(beat.ended for beat in workers):
        return None
    return max(0.0, now - max(beat.last_sign for beat in workers))


def began(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine's start; None if it has ended, or /proc is missing."""
    stat = _stat(pid)
    return None if stat is None or stat[0] in "ZX" else int(stat[19])


def is_stopped(pid: int) -> bool:
    """Return whether a process of this machine is stopped (SIGSTOP); False if it has ended, or /proc is missing."""
    stat = _stat(pid)
    return stat is not None and stat[0] in "Tt"


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the process's name, its state first; None if there is no such file."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _bytes_read() -> int:
    """Return the bytes that this process has read from files and sockets, mapped ones included; 0 if not known."""
    try:
        rows = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    except OSError:
        return 0
    return int(rows["rchar"]) + int(rows["read_bytes"])
