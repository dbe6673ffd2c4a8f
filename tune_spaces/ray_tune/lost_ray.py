"""End a start in one line when a process of its Ray dies, and say so when one is stopped (SIGSTOP).

If one dies, Ray's own code ends this process within a second or two, after printing the logs of what died and nothing
else. If one is stopped, Ray prints nothing: jobs that run go on, and all other requests to Ray wait.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tune_spaces.ray_tune.interrupts import Interrupts
from tune_spaces.ray_tune.processes import processes_of_ray
from tune_spaces.ray_tune.silent_head import Head, HeadWatch, says_if_silent

PROCESSES = {"raylet": "raylet", "gcs_server": "head"}
STOPPED_S = 10.0  # for which a process is stopped before it is reported
LOOK_S = 2.0


@contextmanager
def ends_with_ray(
    interrupts: Interrupts, record: Callable[[str], None], stopped_s: float = STOPPED_S
) -> Iterator[None]:
    """End this process in one line if the raylet or the head of its Ray dies while the body runs.

    If one of them is stopped, one line names it with both remedies.
    Of a cluster that was joined, the raylet that this process talks to is watched in the same way, but it is not this
    start's to end; its head, which may be on another host, is asked whether it answers. If that has been lost for good,
    the raylet ends by itself, after a minute or as long as the cluster's configuration says. Of what ran there, this
    process ends its own job's processes on this machine.

    Args:
        interrupts: says what is left to do; without `ends_process` nothing is watched.
        record: takes the reason for the campaign's record.
        stopped_s: seconds for which a process is stopped before it is reported.
    """
    own = _started() if interrupts.ends_process else []
    joined = _joined() if interrupts.ends_process and not own else []
    watched = _handles(own or joined)
    if not watched:
        yield
        return
    names = {process.pid: PROCESSES[process.name()] for process in watched.values()}
    head, job = (HeadWatch(_joined_head()), _job()) if joined else (None, None)
    ended, end = os.pipe()

    def watch() -> None:
        stopped = StoppedProcesses(watched.values(), stopped_s, own=bool(own))
        while not (ready := select.select([ended, *watched], [], [], min(LOOK_S, stopped_s))[0]):
            for line in stopped.look():
                print(line, flush=True)
        if ended in ready:
            return
        reason = f"Ray's {names[watched[ready[0]].pid]} on this machine died"
        if head is not None and head.reported:
            reason = f"Ray's head at {head.head.address} did not answer, and Ray on this machine has ended"
        for process in [*psutil.Process().children(recursive=True), *(_workers(*job) if job else ())]:
            with suppress(psutil.NoSuchProcess):
                process.kill()  # before a child prints its logs, and before `resume` starts a trial that still runs
        try:
            with suppress(OSError):  # a storage that is away keeps no record; the line is said all the same
                record(reason)
            print(f"{reason} {interrupts.describe()}", flush=True)
        finally:
            os._exit(1)

    with says_if_silent(head, lambda line: print(line, flush=True)):
        thread = threading.Thread(target=watch, name="lost Ray", daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.write(end, b".")
            thread.join()
            for handle in (ended, end, *watched):
                os.close(handle)


class StoppedProcesses:
    """Notices which of Ray's processes are stopped, and reports each stop once."""

    def __init__(self, processes: Iterable[psutil.Process], after_s: float, *, own: bool = True) -> None:
        """Start to watch.

        Args:
            processes: raylets and heads.
            after_s: seconds for which one is stopped before it is reported.
            own: whether they are of this start's own Ray, which ends with them.
        """
        self._since: dict[psutil.Process, float | None] = dict.fromkeys(processes)
        self._after_s, self._own, self._reported = after_s, own, set[int]()

    def look(self) -> list[str]:
        """Check every process, and return the lines to print."""
        lines = []
        for process, since in self._since.items():
            with suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_STOPPED:
                    self._since[process] = None
                    self._reported.discard(process.pid)
                    continue
                now = time.monotonic()
                self._since[process] = now if since is None else since
                if since is not None and now - since >= self._after_s and process.pid not in self._reported:
                    self._reported.add(process.pid)
                    name, pid = PROCESSES[process.name()], process.pid
                    ends = f"`kill -KILL {pid}` ends this start, which `resume` continues"
                    waits = "until then nothing new starts"
                    lines.append(
                        f"Ray's {name} on this machine is stopped: `kill -CONT {pid}` lets it go on, "
                        f"{ends if self._own else waits}"
                    )
        return lines


def _started() -> list[psutil.Process]:
    """Return this process's children that a local Ray cannot do without."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.name() in PROCESSES:
                found.append(child)
    return found


def _handles(processes: Iterable[psutil.Process]) -> dict[int, psutil.Process]:
    """Return handles of processes, which can be read once they have ended."""
    handles = {}
    for process in processes if hasattr(os, "pidfd_open") else ():
        with suppress(OSError):
            handles[os.pidfd_open(process.pid)] = process
    return handles


def _joined() -> list[psutil.Process]:
    """Return the raylet of the joined cluster that this process talks to, if this user sees it."""
    import ray
    from ray._private import worker

    node = worker._global_node
    if node is None or not ray.is_initialized():
        return []
    return list(processes_of_ray("raylet", f"--raylet_socket_name={node.raylet_socket_name}"))


def _joined_head() -> Head:
    """Return the head of the joined cluster."""
    from ray._private import worker

    return Head(worker._global_node.gcs_address, worker._global_node.session_name)


def _job() -> tuple[Path, str]:
    """Return the folder of Ray's logs on this machine, and the id of this process's job, by which they are named."""
    import ray
    from ray._private import worker

    return Path(worker._global_node.get_logs_dir_path()), ray.get_runtime_context().get_job_id()


def _workers(logs: Path, job: str) -> Iterator[psutil.Process]:
    """Yield the processes in which a job's actors and tasks run on this machine, and what those have started.

    When their raylet has died, they go on, with nobody to end them.
    """
    for log in logs.glob(f"worker-*-{job}-*.out"):
        with suppress(ValueError, psutil.Error):
            process = psutil.Process(int(log.stem.rpartition("-")[2]))
            if process.name().startswith("ray::"):
                yield from process.children(recursive=True)
                yield process
