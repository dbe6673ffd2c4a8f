"""The raylet or the head of a cluster that a driver has joined is stopped (SIGSTOP) or dies: a line says so.

SIGCONT goes on; what is lost for good ends the driver in one line, and `resume` goes on elsewhere.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge_common import files
from bridge_common.environment import variables_set
from tests.support.campaigns import NAME, driver_log, prepare, steps
from tests.support.faults import (
    RECOVERY_S,
    assert_as_undisturbed,
    assert_goes_on,
    assert_nothing_reserved,
    driving,
    last_line,
)
from tests.support.ray_clusters import ray_cluster
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
STEPS = 60
GIVES_UP_S = 20  # for which the nodes of a lost head wait for it, in place of a minute


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Yield a cluster of this file's own: others may not survive the stop of the one that all tests share."""
    with ray_cluster() as own:
        yield own


@pytest.fixture
def lost_cluster() -> Iterator[Any]:
    """Yield a cluster that a test may end."""
    with variables_set({"RAY_gcs_rpc_server_reconnect_timeout_s": str(GIVES_UP_S)}), ray_cluster() as own:
        yield own


def process_of(cluster: Any, name: str) -> int:
    """Return the id of a process of a cluster's first node."""
    return int(cluster.head_node.all_processes[name][0].process.pid)


def workers_of(cluster: Any) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Return the processes of a cluster's first node that run an actor, and those that run nothing."""
    children = psutil.Process(process_of(cluster, "raylet")).children()
    actors = [child for child in children if child.name().startswith("ray::ImplicitFunc")]
    return actors, [child for child in children if child.name().startswith("ray::IDLE")]


def test_a_stopped_raylet_of_a_joined_cluster_is_said_and_goes_on(storage: Path, cluster: Any) -> None:
    pid = process_of(cluster, "raylet")
    said = f"Ray's raylet on this machine is stopped: `kill -CONT {pid}` lets it go on, until then nothing new starts"
    log = stopped_and_continued(storage, cluster, pid, said)
    assert log.count(" is stopped: ") == 1
    assert "Ray's head" not in log


def test_a_stopped_head_of_a_joined_cluster_is_said_and_goes_on(storage: Path, cluster: Any) -> None:
    pid = process_of(cluster, "gcs_server")
    head = f"Ray's head at {cluster.address}"
    said = f"{head} does not answer: its process on this machine is stopped, `kill -CONT {pid}` lets it go on. "
    log = stopped_and_continued(storage, cluster, pid, said)
    assert [log.count(words) for words in (f"{head} does not answer", f"{head} answers again")] == [1, 1]
    assert " on this machine is stopped: " not in log, "the raylet is not"


def stopped_and_continued(storage: Path, cluster: Any, pid: int, said: str) -> str:
    """Stop a process of a joined cluster until the driver says so, and return all that the driver has printed."""
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.5)
    with driving(storage, address=cluster.address) as driver:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "it works")
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: said in driver_log(storage), 30, "a line says so")
            done = len(steps(storage, "full"))
            wait_for(lambda: len(steps(storage, "full")) > done, 30, "the running job goes on meanwhile")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert driver.wait(240) == 0, driver_log(storage)
    assert psutil.pid_exists(pid), "the cluster is not this driver's to end"
    assert_as_undisturbed(storage, STEPS)
    assert_nothing_reserved(cluster)
    return driver_log(storage)


@pytest.mark.parametrize("process", [pytest.param("gcs_server", id="head"), pytest.param("raylet", id="raylet")])
def test_a_joined_cluster_that_is_lost_for_good_ends_the_driver_in_one_line(
    process: str, storage: Path, lost_cluster: Any, ray_head: Any, record_property: Any
) -> None:
    prepare(storage, {"full": 0.72}, steps=400, pause=0.2)
    reason = "Ray's raylet on this machine died"
    with driving(storage, address=lost_cluster.address) as driver:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "it works")
        actors, idle = workers_of(lost_cluster)
        assert len(actors) == 1
        began = time.monotonic()
        os.kill(process_of(lost_cluster, process), signal.SIGKILL)
        if process == "gcs_server":
            head = f"Ray's head at {lost_cluster.address}"
            wait_for(lambda: f"{head} is gone, nothing listens there: " in driver_log(storage), 30, "a line says so")
            reason = f"{head} did not answer, and Ray on this machine has ended"
        assert driver.wait(60) == 1
        record_property(RECOVERY_S, time.monotonic() - began)
    line = last_line(storage)
    assert line.startswith(f"{reason} (not finished: full-"), driver_log(storage)
    assert f"resume --storage {storage} --name {NAME}" in line
    assert files.read_json(storage / NAME / "campaign.json")["starts"][-1]["stopped"]["reason"] == reason
    assert not psutil.wait_procs(actors, timeout=10)[1], "its trial does not run on by itself"
    for each in idle:  # no job's; they would wait for their raylet for minutes
        with suppress(psutil.NoSuchProcess):
            each.kill()
    assert_goes_on(storage, ray_head)


def test_a_signal_ends_a_driver_whose_head_is_stopped(storage: Path, cluster: Any) -> None:
    prepare(storage, {"full": 0.72}, steps=400, pause=0.2)
    pid = process_of(cluster, "gcs_server")
    with driving(storage, address=cluster.address) as driver:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "it works")
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: "does not answer" in driver_log(storage), 30, "a line says so")
            driver.send_signal(signal.SIGTERM)
            assert driver.wait(20) == 1
        finally:
            os.kill(pid, signal.SIGCONT)
    assert last_line(storage).startswith("stopped by SIGTERM (not finished: full-"), driver_log(storage)
