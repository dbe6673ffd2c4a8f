"""Stores are checked within seconds and without MLflow."""

import http.server
import socket
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy

from bridge_common.errors import UserError
from mlflow_utils.server import ARTIFACT_SCHEMES, artifacts_place, is_up, serve
from mlflow_utils.tracking_uri import check, default_tracking_uri
from tests.support.no_http import speaks_no_http


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


@pytest.mark.parametrize("name", ["plain", "Größe der Läufe ß 模型", "a?b=c", "50%", "a%41b", "a#b", "a@b:c", "it's"])
def test_the_default_database_is_in_its_storage_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    storage = tmp_path / name
    storage.mkdir()
    uri = default_tracking_uri(storage)
    check(uri)
    with sqlalchemy.create_engine(uri).begin() as connection:
        connection.execute(sqlalchemy.text("create table one (two int)"))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")] == [Path(name, "mlflow.db")]
    check(uri)
    (storage / "mlflow.db").write_text("this is not a database, by any means" * 100)
    with pytest.raises(UserError, match="not a usable SQLite"):
        check(uri)


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers `/health` as MLflow's server does, and below `/other` as another program."""

    def do_GET(self) -> None:
        body = {"/health": b"OK\n", "/other/health": b"ok"}.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_server_is_asked_for_its_health() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        check(address)
        check(address + "/")
        with pytest.raises(UserError, match="what answers there is another program"):
            check(address + "/other")
        missing = rf"no MLflow server at {address}/none \(HTTP Error 404: Not Found\): start one"
        with pytest.raises(UserError, match=missing):
            check(address + "/none")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(UserError, match="no MLflow server at https://"):
        check("https://127.0.0.1:9")


def test_the_address_of_a_server_is_shown_without_a_password(tmp_path: Path) -> None:
    said: list[str] = []
    assert serve("http://user:SECRET@host:1234/mlflow", tmp_path, echo=said.append) == 0
    assert said == ["http://host:1234/mlflow is a server already: open it in a browser"]


def test_artifacts_are_kept_where_mlflow_can_keep_them(tmp_path: Path) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories

    assert set(ARTIFACT_SCHEMES) <= get_registered_artifact_repositories().keys()
    assert artifacts_place(tmp_path) == str(tmp_path)
    assert artifacts_place("gs://bucket/path") == "gs://bucket/path"
    with pytest.raises(
        UserError, match=r"artifacts at nobody://me:\*\*\*@x: MLflow keeps none at nobody://; give a folder"
    ):
        artifacts_place("nobody://me:SECRET@x")


def test_what_speaks_another_protocol_is_one_line() -> None:
    with speaks_no_http() as address:
        with pytest.raises(UserError) as refused:
            check(address)
        assert f"no MLflow server at {address} (what answers there does not speak HTTP): start one" in str(
            refused.value
        )
        assert not is_up(address)


@pytest.mark.timeout(60)
def test_what_accepts_and_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(UserError, match="timed out"):
        check(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.3)


def test_an_existing_database_is_opened_and_not_made(tmp_path: Path) -> None:
    uri = default_tracking_uri(tmp_path)
    check(uri)
    assert not (tmp_path / "mlflow.db").exists()
    sqlite3.connect(tmp_path / "mlflow.db").close()
    check(uri)
    with pytest.raises(UserError, match=r"the folder of the tracking database relative/x.db does not exist"):
        check("sqlite:///relative/x.db")


def test_a_database_server_has_postgresqls_port_by_default() -> None:
    with pytest.raises(UserError, match=r"no database answers at 127\.0\.0\.1:5432|pip install 'psycopg\[binary\]'"):
        check("postgresql://127.0.0.1/runs")
    with pytest.raises(UserError, match=r"no database answers at 127\.0\.0\.2:5432"):
        check("postgresql+json://127.0.0.2/runs", timeout=0.3)
    check("postgresql+json:///runs")  # by a socket of this machine, which only the driver knows
