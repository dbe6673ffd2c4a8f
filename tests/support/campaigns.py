"""Campaigns of cheap jobs, in this process or as a driver of their own, on a Ray that the test holds."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge_common import files
from ray_bridge.config.presets import tiny, tiny_run
from tests.support.ports import free_ports
from tune_spaces.campaign import Campaign
from tune_spaces.design import phases

ROOT = Path(__file__).parents[2]
DIRECT, TRAINED = "tests.support.cheap_jobs:direct", "tests.support.cheap_jobs:trained"
NAME = "phase1-tiny"


def prepare(storage: Path, accuracy: dict[str, float], **settings: Any) -> None:
    """Say what cheap jobs in a storage find."""
    storage.mkdir(parents=True, exist_ok=True)
    files.write_json(storage / "cheap.json", {"n": 10_000, **settings, "accuracy": accuracy})


def campaign(storage: Path, *, gate: Any = None, run: dict[str, Any] | None = None, **changes: Any) -> Campaign:
    """Phase 1 of the tiny preset on many items, so that accuracies can stand close to a boundary."""
    base = tiny(**{"test_examples": 10_000, **changes})
    return Campaign(phases.phase1(base), base, tiny_run(**(run or {})), storage=storage, name=NAME, gate=gate)


def journal(storage: Path) -> list[dict[str, Any]]:
    """What cheap jobs have done so far."""
    path = storage / "journal.jsonl"
    return files.read_jsonl(path) if path.is_file() else []


def events(storage: Path, kind: str) -> list[str]:
    """Variants of the journal's events of one kind, in order."""
    return [row["variant"] for row in journal(storage) if row["event"] == kind]


def free(kind: str) -> float:
    """How much of a resource is free in the connected Ray."""
    import ray

    return float(ray.available_resources().get(kind, 0.0))


@contextmanager
def fast_ray() -> Iterator[None]:
    """Settings under which Ray's workers find the tests' modules and faults are seen soon."""
    given = {
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def ray_cluster(*nodes: dict[str, Any]) -> Iterator[Any]:
    """A cluster of raylets on this machine, connected: a head without GPUs, and nodes as asked for."""
    import logging

    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20}
    with fast_ray():
        head = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": free_ports(1)[0], **small}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for node in nodes:
                cluster.add_node(**node, **small)
            cluster.wait_for_nodes()
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def driver(storage: Path, *arguments: str, job: str = DIRECT, address: str | None = None) -> subprocess.Popen[str]:
    """`python -m cluster phase1` as a process group of its own, so that all of it can be killed."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    if address:
        environment["RAY_ADDRESS"] = address
    log = (storage / "driver.log").open("a")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "cluster", "phase1", "--storage", str(storage), "--job", job),
            *("--set", "test_examples=10000", *arguments),
        ],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a driver that still runs."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
