"""The raylet of a cluster that a driver has joined is stopped (SIGSTOP): it is said, and SIGCONT goes on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.campaigns import driver_log, prepare, steps
from tests.support.faults import assert_as_undisturbed, assert_nothing_reserved, driving
from tests.support.ray_clusters import ray_cluster
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
STEPS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Yield a cluster of this file's own: others may not survive the stop of the one that all tests share."""
    with ray_cluster() as own:
        yield own


@pytest.mark.parametrize(
    ("process", "name"),
    [
        pytest.param("raylet", "raylet", id="SIGSTOP raylet"),
    ],
)
def test_a_stopped_process_of_a_joined_cluster_is_said_and_goes_on(
    process: str, name: str, storage: Path, cluster: Any
) -> None:
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.5)
    with driving(storage, address=cluster.address) as driver:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "it works")
        pid = cluster.head_node.all_processes[process][0].process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            said = f"Ray's {name} on this machine is stopped: `kill -CONT {pid}` lets it go on"
            wait_for(lambda: said in driver_log(storage), 30, "a line says so")
            done = len(steps(storage, "full"))
            wait_for(lambda: len(steps(storage, "full")) > done, 30, "the running job goes on meanwhile")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert driver.wait(240) == 0, driver_log(storage)
    assert driver_log(storage).count(" is stopped: ") == 1
    assert psutil.pid_exists(pid), "the cluster is not this driver's to end"
    assert_as_undisturbed(storage, STEPS)
    assert_nothing_reserved(cluster)
