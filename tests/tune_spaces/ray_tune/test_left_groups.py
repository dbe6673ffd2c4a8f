"""Placement groups that are made while their job ends, and stay: a driver removes its own, and others' at its start."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import connected, free
from tests.support.waiting import wait_for
from tune_spaces.ray_tune.left_groups import WAIT_S, remove_left_groups

pytestmark = pytest.mark.slow
MAKES_GROUPS = """
import sys, threading
from contextlib import nullcontext
import ray
from tune_spaces.ray_tune.connect import connected

@ray.remote(num_cpus=0)
class Maker:
    def make(self):
        from ray.util.placement_group import placement_group
        def make():
            while True:
                placement_group([{"CPU": 0.01}])
        for _ in range(8):
            threading.Thread(target=make, daemon=True).start()

address, way = sys.argv[1:]
if way == "ours":
    context = connected(address=address)
else:
    ray.init(address=address, log_to_driver=False)
    context = nullcontext()
with context:
    maker = Maker.remote()
    ray.get(maker.make.remote())
    threading.Event().wait(1)
"""


def run_driver(cluster: Any, way: str) -> None:
    """Run a driver one of whose actors asks for groups until it is killed."""
    command = [sys.executable, "-c", MAKES_GROUPS, cluster.address, way]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    time.sleep(2 * WAIT_S)


def test_a_driver_leaves_no_group_that_was_made_while_it_ended(ray_head: Any) -> None:
    for _ in range(3):
        run_driver(ray_head, "ours")
        with connected(ray_head):
            assert remove_left_groups() == 0
            assert free("CPU") == 2


def test_a_start_removes_what_a_dead_driver_has_left(ray_head: Any) -> None:
    from tune_spaces.ray_tune.connect import connected as joined

    for _ in range(6):
        run_driver(ray_head, "plain")
        with connected(ray_head):
            left = free("CPU") < 2
        if left:
            break
    else:
        pytest.skip("this Ray leaves no group behind")
    with joined(address=ray_head.address):
        wait_for(lambda: free("CPU") == 2, 10, "its CPUs are free")
