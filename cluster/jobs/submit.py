"""Run a phase as a job of a Ray cluster: upload the code, follow the log, return the phase's exit code.

`ray job submit --working-dir . -- python -m cluster PHASE` does the same without three things: the phase's own exit
code (Ray's client only knows 0 and 1), a storage that a second submit finds again, and the state of git, which the
uploaded copy no longer has.
"""

import json
import os
import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.git import GIT_FACTS, git_facts
from cluster.default_paths import default_storage
from cluster.jobs.client import PROJECT, connect
from cluster.jobs.follow import follow_job, write_out
from cluster.jobs.upload import exclusions, measure, require_small
from cluster.program import program
from cluster.variables import job_variables

STOP_WAIT = {"RAY_JOB_STOP_WAIT_TIME_S": "20"}  # a phase ends within 15 s; Ray kills a stopped job after 3 by default


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
    """Submit `python -m cluster PHASE ARGUMENTS` and wait for its end.

    Args:
        phase: a command of the command line.
        arguments: its arguments; a relative `--storage` among them is made absolute here.
        address: http(s)://HOST:PORT of the dashboard, or HOST:PORT; if None, that of $RAY_API_SERVER_ADDRESS, else
            of $RAY_ADDRESS.
        env: variables for the job, `NAME=VALUE`, or `NAME` for the value that it has here.
        runtime_env: further fields of Ray's runtime environment, such as `pip`.
        working_dir: what is uploaded, without its environments, git history and storages of campaigns.
        storage: folder of the campaigns, under the path at which the cluster mounts it.
        follow: print the job's log until it ends. Ctrl-C then ends the printing, not the job.
        out: writes the log's text; to standard output by default.

    Returns:
        The phase's exit code: 0, 1, 2; 1 for a job that was stopped or never started; 130 after Ctrl-C. Without
        `follow`, 0 once the job is accepted.

    Raises:
        UserError: within seconds, if no address is given, nothing answers there, the upload would be too large, or the
            job is refused.
    """
    client = connect(address)
    given = _with_storage(arguments, storage)
    command = ["python", "-m", "cluster", phase, *given]
    git = git_facts(working_dir)
    environment = dict(runtime_env or {})
    environment["working_dir"] = str(working_dir)
    excludes = exclusions(working_dir, _storage_in(given), environment.get("excludes", []))
    upload = measure(working_dir, excludes)
    require_small(working_dir, upload)
    environment["excludes"] = excludes
    environment["env_vars"] = {
        **STOP_WAIT,
        **job_variables(env),
        GIT_FACTS: json.dumps(git),
        **environment.get("env_vars", {}),
    }
    try:
        job = client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=f"{PROJECT}-{phase}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}",
            runtime_env=environment,
            metadata={"project": PROJECT, "phase": phase, "commit": str(git["commit"])},
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"the cluster refuses the job: {str(error).strip().splitlines()[-1]}") from error
    write = out or write_out
    write(f"uploaded {upload.size / 2**20:.1f} MiB of {working_dir.resolve()}\n")
    write(f"job {job} at {client.get_address()}: {shlex.join(command)}\n")
    if not follow:
        write(f"to follow it: {program()} jobs follow {job}; to stop it: {program()} jobs stop {job}\n")
        return 0
    return follow_job(client, job, write)


def _with_storage(arguments: Sequence[str], storage: Path | None) -> list[str]:
    """Give the arguments an absolute storage, so that the next submit finds what this one left."""
    given = list(arguments)
    for index, part in enumerate(given):
        if part == "--storage" and index + 1 < len(given):
            given[index + 1] = os.path.abspath(given[index + 1])
            return given
        if part.startswith("--storage="):
            given[index] = f"--storage={os.path.abspath(part.removeprefix('--storage='))}"
            return given
    return [*given, "--storage", os.path.abspath(storage or default_storage())]


def _storage_in(arguments: Sequence[str]) -> Path:
    """Return the storage that `_with_storage` has put into the arguments."""
    named = [part.removeprefix("--storage=") for part in arguments if part.startswith("--storage=")]
    return Path(named[0] if named else arguments[list(arguments).index("--storage") + 1])
