"""Ray clusters on this machine for tests: a head with its dashboard, and nodes with fake GPUs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge_common.environment import variables_set
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
SMALL_STORE = {"object_store_memory": 80 * 2**20}
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),  # workers import the tests' job functions
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_period_ms": "500",  # a dead node is known within 3 s, not 15
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process per training run; there is nothing to be preempted by
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
}


@contextmanager
def ray_environment() -> Iterator[None]:
    """Set the variables under which workers find the tests' modules and notice faults soon."""
    with variables_set(ENVIRONMENT):
        yield


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """Start a head with two CPUs, no GPU and a dashboard; yield the `Cluster`, to which nodes can be added.

    Without the dashboard a job that is killed keeps its GPUs.
    """
    from ray.cluster_utils import Cluster

    with ray_environment():
        head = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": free_port(), **SMALL_STORE}
        cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def connected(cluster: Any) -> Iterator[None]:
    """Connect this process to a cluster, as `tune_spaces.ray_tune.connect` does.

    Without the address Ray Train's process that frees what a dead job held may ask another test's Ray on this machine,
    which does not know the job, and then ends one that lives.
    """
    import ray

    from ray_bridge import end_resident_workers

    own = {"env_vars": {"RAY_ADDRESS": cluster.address}}
    with ray_environment():
        ray.init(address=cluster.address, runtime_env=own, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            end_resident_workers()
            ray.shutdown()


def free(resource: str) -> float:
    """Return how much of a resource is free in the connected cluster."""
    import ray

    return float(ray.available_resources().get(resource, 0.0))
