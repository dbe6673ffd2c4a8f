"""Stores are checked within seconds and without MLflow."""

import socket
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from mlflow_utils.tracking_uri import check, default_tracking_uri


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:9", "no MLflow server"),
        ("http://[", "no MLflow server"),
        ("file:///mlruns", "cannot track"),
        ("mlruns", "cannot track"),
        ("sqlite:////no/such/folder/x.db", "does not exist"),
        ("sqlite:///{tmp}/broken.db", "not a usable SQLite"),
    ],
)
def test_an_unusable_store_is_an_error(tmp_path: Path, uri: str, message: str) -> None:
    (tmp_path / "broken.db").write_text("this is not a database, by any means" * 100)
    with pytest.raises(UserError, match=message):
        check(uri.format(tmp=tmp_path))


def test_a_usable_store_is_accepted(tmp_path: Path) -> None:
    check(default_tracking_uri(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as database:
        port = database.getsockname()[1]
        check(f"postgresql+json://me:secret@127.0.0.1:{port}/runs")  # json stands for an installed driver
    with pytest.raises(UserError, match=f"no database answers at 127.0.0.1:{port}") as caught:
        check(f"postgresql+json://me:secret@127.0.0.1:{port}/runs")
    assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="pip install no_such_driver"):
        check("postgresql+no_such_driver://me@127.0.0.1/runs")
