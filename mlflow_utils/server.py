"""Run MLflow's web server on a campaign's store, as a process of its own; MLflow is not imported here."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self
from urllib.request import urlopen

from bridge_common.errors import UserError
from bridge_common.web import NO_ANSWER
from mlflow_utils.tracking_uri import ARTIFACTS, shown, without_login

HOST, PORT = "127.0.0.1", 5000
START_LIMIT = 120.0  # seconds
ARTIFACT_SCHEMES = ("s3", "gs", "wasbs", "abfss", "hdfs", "viewfs", "dbfs", "r2", "b2", "ftp", "sftp", "file")
"""How addresses begin under which MLflow's server keeps artifacts."""


class Server:
    """An MLflow server as a child process; as a context manager it is started, and stopped with all its children."""

    def __init__(
        self,
        backend: str,
        artifacts: Path | str,
        *,
        host: str = HOST,
        port: int = PORT,
        allowed_hosts: str | None = None,
        log: Path | None = None,
    ) -> None:
        """Store the settings; nothing is started before `start`.

        Args:
            backend: URI of the database, `sqlite:///PATH` or `postgresql://...`.
            artifacts: folder of the artifacts, or an address such as `s3://BUCKET/PATH`.
            host: address to listen on; the default is reachable from this machine only.
            port: port to listen on.
            allowed_hosts: comma-separated names by which other machines may address the server.
            log: file for the server's output; this process's output if None.
        """
        self.url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
        self._host, self._port, self._log = host, port, log
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend]
        self._command += ["--artifacts-destination", artifacts_place(artifacts), "--workers", "1"]
        self._command += ["--host", host, "--port", str(port)]
        self._command += ["--allowed-hosts", allowed_hosts] if allowed_hosts else []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server without waiting for it.

        Raises:
            UserError: the port is taken.
        """
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, self._port))
            except OSError as error:
                raise UserError(
                    f"cannot listen on port {self._port} of {self._host} ({error.strerror or error}): give another "
                    "--port or --host"
                ) from error
        output = self._log.open("ab") if self._log else None
        settings = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        try:
            self.process = subprocess.Popen(
                self._command,
                env={**os.environ, **settings},
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
        finally:
            if output:
                output.close()

    def wait(self, limit: float = START_LIMIT) -> Self:
        """Wait until the server answers, and return it.

        Args:
            limit: longest time to wait, in seconds.

        Raises:
            UserError: the server ended, or did not answer in time.
        """
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                where = f", see {self._log}" if self._log else ""
                raise UserError(f"the MLflow server ended before it answered{where}")
            if is_up(self.url):
                return self
            time.sleep(0.2)
        self.stop()
        raise UserError(f"the MLflow server did not answer within {limit:g} s")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the server and its children by a signal; send SIGKILL if they have not ended after ten seconds."""
        if self.process is None:
            return
        self.signal(number)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def signal(self, number: int) -> None:
        """Send a signal to the server and all its children."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def __enter__(self) -> Self:
        self.start()
        return self.wait()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def artifacts_place(artifacts: Path | str) -> str:
    """Return where a server keeps artifacts, as MLflow takes it: an address, or the whole path of a folder.

    Raises:
        UserError: MLflow knows no such addresses, or the package that it needs for S3 is not installed.
    """
    scheme, address, _ = str(artifacts).partition("://")
    if not address:
        return str(Path(artifacts).expanduser().resolve())
    plugins = {store.name for store in entry_points(group="mlflow.artifact_repository")}
    if scheme not in {*ARTIFACT_SCHEMES, *plugins}:
        raise UserError(
            f"artifacts at {shown(str(artifacts))}: MLflow keeps none at {scheme}://; give a folder, or an address of "
            f"{', '.join(ARTIFACT_SCHEMES)}"
        )
    if str(artifacts).startswith("s3://") and importlib.util.find_spec("boto3") is None:
        raise UserError("artifacts on S3 need the package boto3: pip install 'ray-bridge[s3]'")
    return str(artifacts)


def is_up(url: str, timeout: float = 2.0) -> bool:
    """Return whether an MLflow server answers at an address within `timeout` seconds."""
    try:
        with urlopen(url.rstrip("/") + "/health", timeout=timeout) as answer:
            return bool(answer.status == 200)
    except NO_ANSWER:
        return False


def serve(
    tracking_uri: str,
    storage: Path,
    *,
    artifacts: str | None = None,
    host: str = HOST,
    port: int = PORT,
    allowed_hosts: str | None = None,
    echo: Callable[[str], object] = print,
) -> int:
    """Serve a store in the foreground until interrupted.

    Args:
        tracking_uri: URI of the store's database. If it is the address of a server, that address is printed instead.
        storage: folder of `mlartifacts`; created if needed.
        artifacts: where artifacts are kept instead, a folder or an address such as `s3://BUCKET/PATH`.
        host: address to listen on; the default is reachable from this machine only.
        port: port to listen on.
        allowed_hosts: comma-separated names by which other machines may address the server.
        echo: called with each line for the user.

    Returns:
        The server's exit status; 0 after an interruption.

    Raises:
        UserError: the port is taken, the server does not start, or a package for the artifacts' address is missing.
    """
    if tracking_uri.startswith("http"):
        echo(f"{without_login(tracking_uri)} is a server already: open it in a browser")
        return 0
    storage.mkdir(parents=True, exist_ok=True)
    server = Server(tracking_uri, artifacts or storage / ARTIFACTS, host=host, port=port, allowed_hosts=allowed_hosts)

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, leave)
    try:
        server.start()
        server.wait()
        echo(f"MLflow: {server.url} (end with Ctrl-C)")
        assert server.process is not None
        return server.process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.stop()
        signal.signal(signal.SIGTERM, earlier)
