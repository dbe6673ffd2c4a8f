"""List and stop the jobs that were submitted to a Ray cluster."""

import time
from dataclasses import dataclass
from typing import Any

from bridge_common.errors import UserError
from bridge_common.threads import NoAnswerError, bounded
from cluster.jobs.client import PROJECT, connect
from cluster.jobs.follow import exit_code

RUNNING = ("PENDING", "RUNNING")
ANSWER_S = 30
POLL_S = 0.3


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """A job as Ray records it.

    Attributes:
        id: by which Ray's commands name it.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        phase: the phase that it runs; None if another program submitted it.
        ours: whether this project submitted it.
        exit_code: of the phase; None while it runs.
        started: seconds since 1970.
        command: what it runs.
    """

    id: str
    status: str
    phase: str | None
    ours: bool
    exit_code: int | None
    started: float
    command: str

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status in RUNNING


def submitted_jobs(client: Any) -> list[SubmittedJob]:
    """Return the cluster's submitted jobs, oldest first."""
    jobs = [_submitted_job(details) for details in bounded(client.list_jobs, ANSWER_S) if details.submission_id]
    return sorted(jobs, key=lambda job: job.started)


def print_jobs(address: str | None = None) -> None:
    """Print a line for each submitted phase, oldest first.

    Raises:
        UserError: if nothing answers at the address.
    """
    jobs = [job for job in submitted_jobs(connect(address)) if job.ours]
    for job in jobs:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started))
        ended = "" if job.exit_code is None else f", exit code {job.exit_code}"
        print(f"{job.id}: {job.status}{ended}, started {started}: {job.command}")
    if not jobs:
        print("no phase was submitted to this cluster")


def stop_jobs(job: str | None = None, *, address: str | None = None, timeout_s: float = 60) -> list[str]:
    """Stop a job, or all of this project that run, and wait until Ray has ended them.

    Args:
        job: its id; every running job of this project if None.
        address: as in `submit`.
        timeout_s: seconds to wait for the end.

    Returns:
        The ids of the jobs that were running and are stopped.

    Raises:
        UserError: if there is no such job, nothing answers at the address, or a job does not end in time.
    """
    client = connect(address)
    known = {row.id: row for row in submitted_jobs(client)}
    if job is not None and job not in known:
        raise UserError(f"no job {job} at {client.get_address()}: there are {', '.join(known) or 'none'}")
    chosen = [known[job]] if job is not None else [row for row in known.values() if row.ours]
    running = [row.id for row in chosen if row.running]

    def end() -> None:
        for name in running:
            client.stop_job(name)
        while any(str(client.get_job_status(name)) in RUNNING for name in running):
            time.sleep(POLL_S)

    try:
        bounded(end, timeout_s)
    except NoAnswerError as error:
        raise UserError(
            f"{', '.join(running)} did not end within {timeout_s:g} s: see its log with `ray job logs`"
        ) from error
    return running


def _submitted_job(details: Any) -> SubmittedJob:
    metadata, status = details.metadata or {}, str(details.status)
    return SubmittedJob(
        id=details.submission_id,
        status=status,
        phase=metadata.get("phase"),
        ours=metadata.get("project") == PROJECT,
        exit_code=None if status in RUNNING else exit_code(details),
        started=(details.start_time or 0) / 1000,
        command=details.entrypoint,
    )
