"""Run a phase as a job of a Ray cluster: send the code, follow the log, hand its exit code on, stop it.

`ray job submit --working-dir . -- python -m cluster PHASE` does the same, but for three things that a plain submit
lacks: the phase's own exit code (Ray's client only knows 0 and 1), a storage that a second submit finds again, and
the state of git, which the copy that runs no longer has.
"""

import json
import os
import re
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.git import GIT_FACTS, git_facts
from bridge_common.threads import NoAnswerError, bounded
from cluster.default_paths import STORAGE, default_storage
from cluster.jobs.client import connect, first_line
from cluster.jobs.follow import Follower

EXCLUDES = ("/runs/", "/.venv/", "/venv/", "/.git", "/mlruns/", "/mlartifacts/", "*.db", "__pycache__/", ".*_cache/")
# Settings of a run that live in the environment. Secrets are not among them: Ray keeps a job's variables readable for
# whoever can see its dashboard, so a token travels only when it is named.
PASSED_ON = (
    "MLFLOW_TRACKING_URI", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "NCCL_DEBUG",
)  # fmt: skip
RUNNING = ("PENDING", "RUNNING")
MARK = "ablate"


def submit(
    phase: str,
    arguments: Sequence[str] = (),
    *,
    address: str | None = None,
    env: Sequence[str] = (),
    runtime_env: Mapping[str, Any] | None = None,
    working_dir: Path = Path("."),
    storage: Path | None = None,
    follow: bool = True,
    out: Callable[[str], None] | None = None,
) -> int:
    """Submit `python -m cluster PHASE ARGUMENTS` and hand on how it ended.

    Args:
        phase: a command of the command line.
        arguments: its arguments; a relative `--storage` among them is made absolute here.
        address: http(s)://HOST:PORT of the dashboard, or HOST:PORT; $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS and
            port 8265 of this machine otherwise.
        env: variables for the job, `NAME=VALUE`, or `NAME` to take the value here.
        runtime_env: further fields of Ray's runtime environment, such as `pip`.
        working_dir: what is sent, without its runs, environments and git history.
        storage: where campaigns are kept, seen under this path by the cluster.
        follow: print the job's log until it ends. Ctrl-C then ends the following, not the job.
        out: takes the log's text; standard output by default.

    Returns:
        The phase's exit code: 0, 1, 2; 1 for a job that was stopped or never started; 130 after Ctrl-C. Without
        `follow`, 0 once the job is accepted.

    Raises:
        UserError: nothing answers at the address, or the job is refused; within seconds.
    """
    client = connect(address)
    command = ["python", "-m", "cluster", phase, *_with_storage(arguments, storage)]
    git = git_facts(working_dir)
    environment = dict(runtime_env or {})
    environment["working_dir"] = str(working_dir)
    environment["excludes"] = [*EXCLUDES, *environment.get("excludes", [])]
    environment["env_vars"] = {**_variables(env), GIT_FACTS: json.dumps(git), **environment.get("env_vars", {})}
    try:
        job = client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=f"{MARK}-{phase}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}",
            runtime_env=environment,
            metadata={"project": MARK, "phase": phase, "commit": str(git["commit"])},
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"the cluster refuses the job: {str(error).strip().splitlines()[-1]}") from error
    say = out or _print
    say(f"job {job} at {client.get_address()}: {shlex.join(command)}\n")
    if not follow:
        say(f"follow it: ray job logs --follow {job}; stop it: ray job stop {job}\n")
        return 0
    return follow_job(client, job, say)


def follow_job(client: Any, job: str, out: Callable[[str], None] | None = None) -> int:
    """Print a job's log until it ends, over lost connections, and return the phase's exit code.

    Raises:
        UserError: the head has not answered for a minute.
    """
    say = out or _print
    try:
        details = Follower(client, job, say).run()
    except KeyboardInterrupt:
        say(f"\nthe job goes on; stop it: ray job stop {job}\n")
        return 130
    code = exit_code(details)
    ended = {"SUCCEEDED": "succeeded", "STOPPED": "was stopped"}.get(
        str(details.status), f"failed with exit code {code}"
    )
    reason = "" if details.driver_exit_code is not None or code == 0 else f": {first_line(details.message)}"
    say(f"job {job} {ended}{reason}\n")
    return code


def exit_code(details: Any) -> int:
    """The phase's exit code out of Ray's record of a job; 1 where the phase itself did not end."""
    if str(details.status) == "SUCCEEDED":
        return 0
    code = details.driver_exit_code
    if code is None and (told := re.search(r"failed with exit code (-?\d+)", details.message or "")):
        code = int(told[1])
    if str(details.status) == "STOPPED" or code is None or code < 0:
        return 1
    return int(code) or 1


def stop(job: str | None = None, *, address: str | None = None, timeout_s: float = 60) -> list[str]:
    """Stop a job, or all of ours that run, and wait until Ray has ended them. Submitting again resumes.

    Args:
        job: its id; every running job of this project if None.
        address: as in `submit`.
        timeout_s: how long to wait for the end.

    Returns:
        The ids of the jobs that were running and are stopped.

    Raises:
        UserError: no such job, nothing at the address, or a job that does not end in time.
    """
    client = connect(address)
    known = {row["id"]: row for row in jobs(client=client)}
    if job is not None and job not in known:
        raise UserError(f"no job {job} at {client.get_address()}: there are {', '.join(known) or 'none'}")
    wanted = [job] if job is not None else [name for name, row in known.items() if row["ours"]]
    stopped = [name for name in wanted if known[name]["status"] in RUNNING]

    def end() -> None:
        for name in stopped:
            client.stop_job(name)
        while any(str(client.get_job_status(name)) in RUNNING for name in stopped):
            time.sleep(0.3)

    try:
        bounded(end, timeout_s)
    except NoAnswerError as error:
        raise UserError(f"{', '.join(stopped)} did not end within {timeout_s:g} s: see `ray job logs` of it") from error
    return stopped


def jobs(*, address: str | None = None, client: Any = None) -> list[dict[str, Any]]:
    """The cluster's submitted jobs, oldest first: id, status, phase, whether ours, exit code, start, command."""
    rows = []
    there = client or connect(address)
    for details in bounded(there.list_jobs, 30):
        if details.submission_id:
            metadata = details.metadata or {}
            status = str(details.status)
            rows.append(
                {
                    "id": details.submission_id,
                    "status": status,
                    "phase": metadata.get("phase"),
                    "ours": metadata.get("project") == MARK,
                    "exit_code": None if status in RUNNING else exit_code(details),
                    "started": (details.start_time or 0) / 1000,
                    "command": details.entrypoint,
                }
            )
    return sorted(rows, key=lambda row: row["started"])


def _with_storage(arguments: Sequence[str], storage: Path | None) -> list[str]:
    """The arguments with an absolute storage, so that the next submit finds what this one left."""
    given = list(arguments)
    for index, part in enumerate(given):
        if part == "--storage" and index + 1 < len(given):
            given[index + 1] = os.path.abspath(given[index + 1])
            return given
        if part.startswith("--storage="):
            given[index] = f"--storage={os.path.abspath(part.removeprefix('--storage='))}"
            return given
    return [*given, "--storage", os.path.abspath(storage or default_storage())]


def _variables(names: Sequence[str]) -> dict[str, str]:
    values = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    for text in names:
        name, given, value = text.partition("=")
        if not given and name not in os.environ:
            raise UserError(f"--env {name}: no such variable here; write --env {name}=VALUE")
        values[name] = value if given else os.environ[name]
    values.pop(STORAGE, None)
    return values


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
