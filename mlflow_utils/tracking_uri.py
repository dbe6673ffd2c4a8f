"""The default MLflow store, and a check within seconds, without MLflow, that a store can be reached."""

import base64
import importlib.util
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from bridge_common.errors import UserError
from bridge_common.web import NO_ANSWER, why

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
"""Names in a storage of the default store's database, and of the folder of artifacts."""


def default_tracking_uri(storage: Path) -> str:
    """Return the URI of the default store: a SQLite database in the storage folder, with artifacts in `mlartifacts`."""
    path = str(Path(storage).resolve())
    for sign in "%?":  # what SQLAlchemy takes for more than a sign of the path; old URIs of other paths stay the same
        path = path.replace(sign, quote(sign, safe=""))
    return f"sqlite:///{path}/{DATABASE}"


def shown(uri: str) -> str:
    """Return a URI as messages show it: without its user's password and its query, on one line."""
    scheme, mark, rest = uri.partition("://")
    if mark and "?" in rest:
        return f"{shown(uri.partition('?')[0])}?***"
    user, at, place = rest.rpartition("@")
    hidden = f"{user.partition(':')[0]}:***{at}" if ":" in user else f"{user}{at}"
    return " ".join(f"{scheme}{mark}{hidden}{place}".split())


def without_login(uri: str) -> str:
    """Return the address of a server as a browser needs it: without user and password, for which it asks."""
    scheme, mark, rest = uri.partition("://")
    server, slash, path = rest.partition("/")
    return f"{scheme}{mark}{server.rpartition('@')[2]}{slash}{path}"


def check(tracking_uri: str, timeout: float = 5.0) -> None:
    """Check that a store can be reached, before resources are reserved for a campaign.

    Args:
        tracking_uri: an MLflow server (http://...) or database (sqlite:///..., postgresql://...).
        timeout: seconds to wait for an answer.

    Raises:
        UserError: the store cannot be reached, or MLflow does not support the URI.
    """
    scheme, _, rest = tracking_uri.partition("://")
    if scheme in ("http", "https"):
        _check_server(tracking_uri, timeout)
    elif scheme == "sqlite":
        _check_sqlite(Path(unquote(rest.removeprefix("/"))), timeout)
    elif scheme.partition("+")[0] == "postgresql":
        _check_postgresql(tracking_uri, scheme.partition("+")[2], timeout)
    else:
        raise UserError(
            f"MLflow cannot track to {shown(tracking_uri)!r}: give http://HOST:PORT of a server, sqlite:///PATH, or "
            "the URI of a PostgreSQL database"
        )


def _check_server(uri: str, timeout: float) -> None:
    try:
        with urlopen(_health(uri), timeout=timeout) as answer:
            if answer.read(100).strip() != b"OK":
                raise URLError("what answers there is another program")
    except NO_ANSWER as error:
        raise UserError(
            f"no MLflow server at {shown(uri)} ({why(error)}): start one with "
            "`python -m cluster ui`, or leave --tracking-uri out to track into a local database"
        ) from error


def _health(uri: str) -> Request:
    """Return the request of a server's health page, with user and password as MLflow's client sends them.

    They are the URI's, or else those of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.

    Raises:
        ValueError: if the URI has no host, or a port that is none.
    """
    try:
        parts = urlsplit(uri)
        name, port = parts.hostname, parts.port
    except ValueError:  # whose words repeat what may be a part of a password
        raise ValueError("its host or its port is none") from None
    if not name:
        raise ValueError("it names no host")
    host = f"[{name}]" if ":" in name else name
    place = host if port is None else f"{host}:{port}"
    request = Request(urlunsplit((parts.scheme, place, f"{parts.path.rstrip('/')}/health", "", "")))
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user:
        user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    if user:
        secret = f"{user}:{password}"
        request.add_header("Authorization", f"Basic {base64.b64encode(secret.encode()).decode()}")
    return request


def _check_sqlite(path: Path, timeout: float) -> None:
    if not path.parent.is_dir():
        raise UserError(
            f"the folder of the tracking database {path} does not exist: create it or give another --tracking-uri"
        )
    if path.exists():
        try:
            address = f"{path.resolve().as_uri()}?mode=rw"
            with closing(sqlite3.connect(address, uri=True, timeout=timeout)) as database:
                database.execute("select name from sqlite_master limit 1")
        except sqlite3.Error as error:
            raise UserError(f"{path} is not a usable SQLite database ({error}): give another --tracking-uri") from error


def _check_postgresql(uri: str, driver: str, timeout: float) -> None:
    package = driver or "psycopg"  # what SQLAlchemy 2.1 takes by default
    if importlib.util.find_spec(package) is None:
        wanted = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary"}.get(package, package)
        raise UserError(f"PostgreSQL needs the package {package}: pip install {wanted}")
    try:
        host, port = urlsplit(uri).hostname, urlsplit(uri).port or 5432
    except ValueError:  # whose words repeat what may be a part of a password
        raise UserError(f"{shown(uri)} is no address: give postgresql://USER@HOST:PORT/DATABASE") from None
    if host is not None:
        try:
            socket.create_connection((host, port), timeout).close()
        except OSError as error:
            raise UserError(
                f"no database answers at {host}:{port} ({error}): start it or give another --tracking-uri"
            ) from error
