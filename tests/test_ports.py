"""No two servers that a test starts are given one port, also when the first listens only later."""

from tests.support.ports import free_port, free_ports


def test_no_port_is_given_twice() -> None:
    assert len({*free_ports(3), *free_ports(3), free_port()}) == 7
