"""What every cell of the fault matrix must show: the campaign ends as an undisturbed one, and nothing is left."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bridge_common.heartbeat import beats
from bridge_common.trial_folder import TrialFolder
from tests.support import mlflow_records
from tests.support.campaigns import NAME, driver, driver_log, end, events, prepare, steps
from tests.support.cheap_jobs import checksum
from tests.support.ray_clusters import connected, free
from tests.support.waiting import wait_for

RECOVERY_S = "recovery_s"
"""Property of a test: seconds from a fault to the driver's end, or until the work went on; the test run lists them."""

GONE_WITHIN_S = 15.0
"""From a signal until a driver and all that it started are gone."""


@contextmanager
def driving(storage: Path, *arguments: str, **how: Any) -> "Iterator[subprocess.Popen[str]]":
    """Run a driver, and kill it if it still runs afterwards."""
    process = driver(storage, "--skip-preflight", *arguments, **how)
    try:
        yield process
    finally:
        end(process)


def end_by(process: "subprocess.Popen[str]", number: int) -> float:
    """Send a driver a signal, check that it and all that it started are gone in time; return the seconds it took."""
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    os.kill(process.pid, number)
    assert process.wait(60) == 1
    left = GONE_WITHIN_S - (time.monotonic() - began)
    assert left > 0, f"it ended {-left:.1f} s too late"
    assert not psutil.wait_procs(children, timeout=left)[1], "nothing of its Ray is left"
    return time.monotonic() - began


def last_line(storage: Path) -> str:
    """Return the last line that a driver has printed."""
    return driver_log(storage).strip().splitlines()[-1]


def trial_of(storage: Path, variant: str = "full") -> TrialFolder:
    """Return the folder of a variant's trial."""
    (trial,) = [trial for trial in TrialFolder.begun_in(storage / NAME) if trial.name.startswith(f"{variant}-")]
    return trial


def assert_as_undisturbed(storage: Path, count: int, variants: tuple[str, ...] = ("full",)) -> None:
    """Check that trials have the numbers of an undisturbed campaign, bit for bit, each in one ended run of MLflow."""
    assert sorted(events(storage, "end")) == sorted(variants), "each ended once"
    for variant in variants:
        metrics = (trial_of(storage, variant).result() or {})["metrics"]
        assert metrics["checksum"] == checksum(count), variant
        numbers: dict[int, dict[str, float]] = {}
        for event in trial_of(storage, variant).events():
            if event.get("kind") == "metrics":  # a job that is killed before its checkpoint does a step again
                assert numbers.setdefault(event["step"], event["values"]) == event["values"], variant
    assert_recorded_once(f"sqlite:///{storage / 'mlflow.db'}", NAME, len(variants))


def assert_recorded_once(uri: str, campaign: str, trials: int) -> None:
    """Check that each trial of a campaign has one ended run in MLflow, and the phase another, each point once."""
    recorded = mlflow_records.runs(uri, campaign)
    for run in recorded:
        places = Counter((name, step) for name, step, _ in mlflow_records.points(uri, run.info.run_id).elements())
        assert all(count == 1 for count in places.values()), "no step is recorded twice"
    assert len(recorded) == trials + 1, "a run for each trial and one for the phase"
    assert {run.info.status for run in recorded} == {"FINISHED"}


def assert_goes_on(storage: Path, cluster: Any) -> None:
    """Check that a start on another Ray ends a trial two steps after its last one, as if it had been undisturbed."""
    done = len(set(steps(storage, "full")))
    prepare(storage, {"full": 0.72}, steps=done + 2)
    with driving(storage, address=cluster.address) as process:
        assert process.wait(240) == 0, driver_log(storage)
    assert_as_undisturbed(storage, done + 2)


def assert_nothing_reserved(cluster: Any) -> None:
    """Check that all CPUs of a cluster are free within 10 s."""
    with connected(cluster):
        wait_for(lambda: free("CPU") == 2, 10, "its CPUs are free")


def process_of(storage: Path, name: str, variant: str = "full") -> int:
    """Return the id of a process of a running trial by its heartbeat's name, 0 if it has none yet."""
    return next((beat.pid for beat in beats(trial_of(storage, variant).path) if beat.name == name), 0)


def rays_process(parent: int, name: str) -> int:
    """Return the id of the process below another whose title contains a name, 0 if there is none."""
    for child in psutil.Process(parent).children(recursive=True):
        try:
            if name in " ".join(child.cmdline()):
                return child.pid
        except psutil.NoSuchProcess:
            continue
    return 0
