"""No two servers that a test starts are given one port, also when the first listens only later."""

import pytest

from tests.support import ports
from tests.support.ports import free_port, free_ports


def test_no_port_is_given_twice() -> None:
    assert len({*free_ports(3), *free_ports(3), free_port()}) == 7


def test_workers_beside_each_other_are_given_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their process numbers are close, so that one would come to the other's ports after a few of its own."""
    blocks = []
    for worker in ("gw0", "gw1", "gw2"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        monkeypatch.setattr(ports, "_given", set())
        blocks.append(set(free_ports(20)))
    assert len(set.union(*blocks)) == 60
