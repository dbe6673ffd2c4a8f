"""Environment variables hold while the body runs, and are as before afterwards, also after an error."""

import os

import pytest

from bridge_common.environment import variables_set


def test_variables_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_KNOWN", "old")
    monkeypatch.delenv("BRIDGE_NEW", raising=False)

    def fail() -> None:
        with variables_set({"BRIDGE_KNOWN": "1", "BRIDGE_NEW": "2"}):
            assert (os.environ["BRIDGE_KNOWN"], os.environ["BRIDGE_NEW"]) == ("1", "2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert os.environ["BRIDGE_KNOWN"] == "old"
    assert "BRIDGE_NEW" not in os.environ
