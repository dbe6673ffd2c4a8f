"""Workers of Ray Train that keep the frozen models loaded and run one job after another (`RunSpec.resident`).

A group belongs to the process that asks for jobs: a Ray Tune trial actor, which Tune uses again for the next trial
(`reuse_actors`). It ends with that process, when a job fails in it, or after it had no job for some seconds, so that
nobody waits for its GPUs.

A thread waits in `ray.get` for the workers' end. Ray frees at its shutdown what such a call reads, so that the process
may die of it (SIGSEGV): `end_resident_workers` comes before `ray.shutdown`.
"""

import atexit
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from bridge_common import heartbeat
from bridge_common.trial_folder import TrialFolder
from ray_bridge.config.fingerprint import plugin_contents
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.training.ray_run import run_on_workers
from ray_bridge.training.ray_worker import REPEATED, run_worker
from ray_bridge.training.resident_desk import Desk

IDLE_S = 10.0
"""Seconds without a job after which a group ends: Tune starts a trial that is ready within two."""
RESIDENT = "resident"  # folder of the cache, for Ray Train's own files of a group
LEFT_S = 7 * 24 * 3600.0  # age at which such files are removed whose group was ended with its process
LOOK_S = 2.0  # between looks whether the workers are there at all, while a job runs
APART_S = 1.0
"""Least seconds from a job's last checkpoint report to the end of `run_job`.

If both reach Tune's session at once, each waits for the other to be taken, and the trial hangs.
"""
END_S = 60.0  # within which a group without a job ends when asked to
ABANDONED_S = 5.0  # within which workers fail that have lost their desk

Report = Callable[[dict[str, float], str], None]

_idle: "list[ResidentGroup]" = []
_abandoned: "list[ResidentGroup]" = []
_lock = threading.Lock()


def run_resident(
    config: Mapping[str, Any], run: RunSpec, *, node_id: str | None, callbacks: Sequence[Any] = ()
) -> None:
    """Run one job on a group of workers: on one that this process has kept, or on a new one.

    After a failure a new group goes on from the job's checkpoint, as often as `run.max_failures` allows.

    Args:
        config: the job, as `run_worker` takes it.
        run: its workers.
        node_id: Ray's id of the node on which all workers must run; None for any.
        callbacks: Ray Train callbacks, which get each checkpoint's metrics in this process.

    Raises:
        ray.train.TrainingFailedError: as `run_on_workers`.
    """
    import ray.train

    made = list(callbacks)  # once: one that reports to Tune starts a process

    def report(metrics: dict[str, float], folder: str) -> None:
        for callback in made:
            callback.after_report(None, [metrics], ray.train.Checkpoint(folder))

    failures = 0
    while True:
        group = _take(_needs(config, run), node_id) or ResidentGroup(config, run, node_id)
        try:
            taken = group.run(config, report)
        except ray.train.TrainingFailedError as error:
            preempted = _preempted(error)
            failures += not preempted
            again = preempted or (isinstance(error, ray.train.WorkerGroupError) and not _refused(error))
            if not again or failures > run.max_failures:
                raise
            continue
        except BaseException:
            with _lock:
                _abandoned[:] = [each for each in _abandoned if each.alive] + [group]
            group.abandon()
            raise
        if not taken:
            heartbeat.clear(Path(config["folder"]))  # of workers that had ended
        else:
            group.node_id = group.node_id or (TrialFolder(Path(config["folder"])).result() or {}).get("node_id")
            with _lock:
                _idle.append(group)
            return


def end_resident_workers() -> None:
    """End the workers that wait in this process for their next job, and free their GPUs.

    A script that has called `run_job` with `resident=true` calls it before `ray.shutdown`; at its end it is called by
    itself.
    """
    with _lock:
        idle, abandoned = list(_idle), list(_abandoned)
        _idle.clear()
        _abandoned.clear()
    for group in idle:
        if group.alive:
            group.end()
    for group in abandoned:
        group.join(ABANDONED_S)


def _refused(error: Any) -> bool:
    return any(isinstance(failure, REPEATED) for failure in error.worker_failures.values())


def _preempted(error: Any) -> bool:
    """Return whether workers ended because their node was taken away, which Ray Train does not count as a failure."""
    failures = getattr(error, "worker_failures", {}).values()
    return type(error).__name__ == "PreemptionError" or any(getattr(one, "preempted", False) for one in failures)


class ResidentGroup:
    """A Ray Train run whose workers ask a desk for jobs.

    Args:
        config: its first job, by which the workers are chosen.
        run: number of workers, and what each of them takes.
        node_id: as in `run_resident`.

    Attributes:
        needs: what a job must have in common with its first one to run here.
        node_id: the node of its workers, None if that is not known.
    """

    def __init__(self, config: Mapping[str, Any], run: RunSpec, node_id: str | None) -> None:
        import ray

        if ray.get_runtime_context().get_actor_id() is None:  # an actor has left Ray when these functions are called
            atexit.unregister(end_resident_workers)
            atexit.register(end_resident_workers)  # after Ray's own, so that it is called before
        self.needs, self.node_id = _needs(config, run), node_id
        self._connection = _connection()
        # Without CPUs: on a small machine the workers need all of them.
        self._desk = ray.remote(num_cpus=0)(Desk).remote(run.workers, IDLE_S)
        self._error: BaseException | None = None
        self._beats: list[heartbeat.Beat] = []  # of its workers, when they had ended their last job
        storage = Path(config["cache"]) / RESIDENT
        start = partial(self._run_workers, run, storage, uuid4().hex[:8], node_id)
        self._thread = threading.Thread(target=start, name="resident workers", daemon=True)

    def run(self, config: Mapping[str, Any], report: Report) -> bool:
        """Run a job to its end and return True, or return False if the group has ended before it could begin it.

        Raises:
            ray.train.TrainingFailedError: as `run_on_workers`.
        """
        import ray
        from ray.exceptions import RayActorError

        first, trial = self._thread.ident is None, Path(config["folder"])
        heartbeat.expect(trial, self._beats)  # else nobody would notice that one of them or the desk hangs
        try:
            if not ray.get(self._desk.ask.remote(dict(config))):
                return False
        except RayActorError:
            if first:
                raise
            return False
        if first:
            self._thread.start()
        seen, ended, reported_at = 0, False, 0.0
        while not ended:
            alive = self._thread.is_alive()  # read first: workers report the end of their job before they end
            reports, begun, ended = ray.get(self._desk.follow.remote(seen, LOOK_S))
            seen += len(reports)
            for metrics, folder in reports:
                report(metrics, folder)
                reported_at = time.monotonic()
            if not ended and not alive:
                if not begun and not first:
                    return False  # they had failed before this job
                raise self._error or RuntimeError("the workers ended before their job")
        self._beats = [beat for beat in heartbeat.beats(trial) if beat.rank is not None]
        time.sleep(max(0.0, reported_at + APART_S - time.monotonic()))
        return True

    @property
    def alive(self) -> bool:
        """Whether its workers wait for a job or run one; those of a Ray that this process has left do not."""
        return self._thread.is_alive() and self._connection == _connection()

    def end(self) -> None:
        """Have workers without a job end, and wait until they have freed their GPUs."""
        import ray
        from ray.exceptions import RayError

        with suppress(RayError):  # the desk may be gone, and its workers with it
            ray.get(self._desk.close.remote(), timeout=END_S)
        self.join(END_S)

    def join(self, within_s: float) -> None:
        """Wait until the workers have ended, for some seconds at most."""
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def abandon(self) -> None:
        """Have workers end that run a job which nobody waits for any more: without a desk they fail."""
        import ray

        ray.kill(self._desk)

    def _run_workers(self, run: RunSpec, storage: Path, name: str, node_id: str | None) -> None:
        for left in storage.glob("*"):
            with suppress(OSError):  # another group may be removing it
                if time.time() - left.stat().st_mtime > LEFT_S:
                    shutil.rmtree(left)
        try:
            # Ray Train must start no worker again: a new one does not know which jobs the group has run.
            run_on_workers(serve_jobs, {"desk": self._desk}, run, storage, name, node_id=node_id, preemptions=0)
        except BaseException as error:  # raised again where the job was asked for
            self._error = error
        finally:
            shutil.rmtree(storage / name, ignore_errors=True)


def serve_jobs(config: Mapping[str, Any]) -> None:
    """Run the desk's jobs, one after another, until there are none: what each worker of a group does."""
    import ray
    import ray.train

    desk, rank = config["desk"], ray.train.get_context().get_world_rank()

    def report(metrics: dict[str, float], folder: str) -> None:
        ray.get(desk.report.remote(metrics, folder))

    models, done = None, 0
    while (job := ray.get(desk.next_job.remote(rank, done))) is not None:
        from ray_bridge.training.resident_models import ResidentModels, release_memory
        from ray_bridge.training.resident_session import ResidentSession

        models = models or ResidentModels()
        run_worker(job, partial(ResidentSession, report=report), models)
        release_memory()
        done += 1


def _connection() -> tuple[str, str] | None:
    """Return what tells this process's connection to Ray from an earlier one, None if there is none."""
    import ray

    if not ray.is_initialized():  # asked first: the context would start a Ray
        return None
    context = ray.get_runtime_context()
    return context.gcs_address, context.get_job_id()


def _needs(config: Mapping[str, Any], run: RunSpec) -> tuple[Any, ...]:
    """Return what jobs must share to run in one group: the workers, and plug-ins, which a process cannot unload.

    An edited module is another one: the group would run what it has imported, under the fingerprint of the edit.
    """
    return (run.workers, run.use_gpu, run.cpus_per_worker, tuple(sorted(plugin_contents(config["spec"]).items())))


def _take(needs: tuple[Any, ...], node_id: str | None) -> ResidentGroup | None:
    """Return an idle group of this process for a job, None if there is none or others wait; then all idle ones end."""
    with _lock:
        groups = [group for group in _idle if group.alive]
        _idle.clear()
        fits = next((g for g in groups if g.needs == needs and node_id in (None, g.node_id)), None)
        if fits is not None and _others_wait():
            fits = None
        _idle.extend(group for group in groups if fits is not None and group is not fits)
    for group in groups if fits is None else ():
        group.end()
    return fits


def _others_wait() -> bool:
    """Return whether jobs wait in Ray's queue for CPUs or GPUs: they were there first."""
    from ray.util.placement_group import placement_group_table

    waiting = (group for group in placement_group_table().values() if group["state"] == "PENDING")
    return any(name in ("CPU", "GPU") for group in waiting for bundle in group["bundles"].values() for name in bundle)
