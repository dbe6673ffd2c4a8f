"""Campaigns of cheap jobs, run by this process or by a driver process of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bridge_common import files
from ray_bridge.config.presets import tiny, tiny_run
from tests.support.mlflow_store import DATABASE, copy_database, empty_database
from tests.support.ray_clusters import ENVIRONMENT, ROOT
from tune_spaces.campaign import Campaign
from tune_spaces.design import phases

DIRECT, TRAINED = "tests.support.cheap_jobs:direct", "tests.support.cheap_jobs:trained"
PLACED = "tests.support.cheap_jobs:placed"
NAME = "phase1-tiny"


def prepare(storage: Path, accuracy: dict[str, float], **settings: Any) -> None:
    """Write what cheap jobs in a storage do and which accuracies they return; see `cheap_jobs`."""
    storage.mkdir(parents=True, exist_ok=True)
    files.write_json(storage / "cheap.json", {"n": 10_000, **settings, "accuracy": accuracy})


def campaign(storage: Path, *, gate: Any = None, run: dict[str, Any] | None = None, **changes: Any) -> Campaign:
    """Return phase 1 of the tiny preset on 10 000 items, so that an accuracy can lie close to a boundary."""
    base = tiny(**{"test_examples": 10_000, **changes})
    return Campaign(phases.phase1(base), base, tiny_run(**(run or {})), storage=storage, name=NAME, gate=gate)


def journal(storage: Path) -> list[dict[str, Any]]:
    """Return what cheap jobs have done so far."""
    return files.read_log(storage / "journal.jsonl")


def events(storage: Path, kind: str) -> list[str]:
    """Return the variants of the journal's events of one kind, in order."""
    return [row["variant"] for row in journal(storage) if row["event"] == kind]


def steps(storage: Path, variant: str) -> list[int]:
    """Return the steps that a variant has done, repeated ones included."""
    return [row["step"] for row in journal(storage) if row["event"] == "step" and row["variant"] == variant]


def driver(
    storage: Path,
    *arguments: str,
    phase: str = "phase1",
    job: str = DIRECT,
    address: str | None = None,
    on: Callable[[list[str]], list[str]] = list,
    log: Path | None = None,
    database: bool = True,
    code: Path = ROOT,
    **variables: str,
) -> subprocess.Popen[str]:
    """Start `python -m cluster PHASE` in a process group of its own, so that all of it can be killed.

    Args:
        storage: folder of the campaign.
        arguments: further options.
        phase: the command.
        job: the job function.
        address: of the Ray to join; None to start a local one.
        on: returns the command line that runs a command on another host; on this one by default.
        log: file that takes the output; by default `driver.log` in the storage.
        database: put an empty MLflow database there first, which the command would take seconds to make.
        code: folder of the packages that it runs.
        variables: further environment variables.
    """
    if database and "--tracking-uri" not in arguments and not (storage / DATABASE).exists():
        copy_database(empty_database(), storage)
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    if address:
        environment["RAY_ADDRESS"] = address
    output = (log or storage / "driver.log").open("a")
    return subprocess.Popen(
        on(
            [
                *(sys.executable, "-m", "cluster", phase, "--storage", str(storage), "--job", job),
                *("--set", "test_examples=10000", *arguments),
            ]
        ),
        cwd=code,
        env={**environment, **ENVIRONMENT, "PYTHONPATH": str(code), **variables},
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def driver_log(storage: Path) -> str:
    """Return what drivers in a storage have printed."""
    return (storage / "driver.log").read_text()


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a driver if it still runs."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
