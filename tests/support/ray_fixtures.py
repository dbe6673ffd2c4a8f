"""One Ray head for all tests that do not end it, started when the first of them runs; `tests/conftest.py` has them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.ray_clusters import connected, ray_cluster


@pytest.fixture(scope="session")
def ray_head() -> Iterator[Any]:
    """Yield a `Cluster` of a head alone; tests that add nodes to it remove them again."""
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def connected_ray(ray_head: Any) -> Iterator[Any]:
    """Yield the same cluster with this process connected to it."""
    with connected(ray_head):
        yield ray_head
