"""MLflow's web server over a campaign's store, and the addresses of its pages.

Nothing here imports MLflow: the server is a process of its own, and run ids are read from the campaign's folder, so
that the address of a compare page is known while the server is down.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from bridge_common.errors import UserError
from mlflow_utils import declarations
from mlflow_utils.sync import sent_state
from mlflow_utils.sync.sent_state import Sent

HOST, PORT = "127.0.0.1", 5000
START_LIMIT = 120.0  # seconds


class Server:
    """An MLflow server as a child process; a context manager that ends it with all its own children."""

    def __init__(
        self,
        backend: str,
        artifacts: Path,
        *,
        host: str = HOST,
        port: int = PORT,
        allowed_hosts: str | None = None,
        log: Path | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            backend: URI of the database, `sqlite:///PATH` or `postgresql://...`.
            artifacts: folder of the artifacts.
            host: address to listen on; the default can be reached from this machine only.
            port: to listen on.
            allowed_hosts: comma-separated names under which others reach the server, where `host` lets them.
            log: file for the server's output; None leaves it to this process's own.
        """
        self.url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
        self._host, self._port, self._log = host, port, log
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend]
        self._command += ["--artifacts-destination", str(artifacts.resolve()), "--workers", "1"]
        self._command += ["--host", host, "--port", str(port)]
        self._command += ["--allowed-hosts", allowed_hosts] if allowed_hosts else []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server without waiting for it.

        Raises:
            UserError: something else listens on the port.
        """
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, self._port))
            except OSError as error:
                raise UserError(f"port {self._port} of {self._host} is taken ({error}): give another --port") from error
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
        """Wait until the server answers.

        Raises:
            UserError: it ended, or did not answer within `limit` seconds.
        """
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                where = f", see {self._log}" if self._log else ""
                raise UserError(f"the MLflow server ended before it answered{where}")
            if answers(self.url):
                return self
            time.sleep(0.2)
        self.stop()
        raise UserError(f"the MLflow server did not answer within {limit:g} s")

    def stop(self, kind: int = signal.SIGTERM) -> None:
        """End the server and its children by a signal, and by SIGKILL what is left after ten seconds."""
        if self.process is None:
            return
        self.signal(kind)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def signal(self, kind: int) -> None:
        """Send a signal to the server and all its children."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, kind)

    def __enter__(self) -> Self:
        self.start()
        return self.wait()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether an MLflow server is up at an address."""
    try:
        with urlopen(url.rstrip("/") + "/health", timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError, ValueError):
        return False


def serve(
    tracking_uri: str,
    storage: Path,
    *,
    host: str = HOST,
    port: int = PORT,
    allowed_hosts: str | None = None,
    say: Callable[[str], object] = print,
) -> int:
    """Serve a store in the foreground until interrupted.

    Args:
        tracking_uri: of the store. That of a server is not served again: its address is said.
        storage: folder that holds, or will hold, `mlartifacts`.
        host: address to listen on; this machine only by default.
        port: to listen on.
        allowed_hosts: names under which others may reach it.
        say: called with the lines for the user.

    Returns:
        The server's exit status, 0 after an interruption.

    Raises:
        UserError: the port is taken, or the server does not come up.
    """
    if tracking_uri.startswith("http"):
        say(f"{tracking_uri} is a server already: open it in a browser")
        return 0
    storage.mkdir(parents=True, exist_ok=True)
    server = Server(tracking_uri, storage / "mlartifacts", host=host, port=port, allowed_hosts=allowed_hosts)

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, leave)
    try:
        server.start()
        server.wait()
        say(f"MLflow: {server.url} (end with Ctrl-C)")
        assert server.process is not None
        return server.process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.stop()
        signal.signal(signal.SIGTERM, earlier)


def compare_url(base: str, experiments: Sequence[str], runs: Sequence[str]) -> str:
    """Address of the page that sets runs side by side (route of MLflow 3.17's web client)."""
    listed = [quote(json.dumps(list(ids), separators=(",", ":")), safe="") for ids in (runs, experiments)]
    return f"{base.rstrip('/')}/#/compare-runs?runs={listed[0]}&experiments={listed[1]}"


def phase_url(folder: Path, tracking_uri: str, phase: str, base: str | None = None) -> str:
    """Address of the compare page of a phase's trials.

    Args:
        folder: the campaign's folder.
        tracking_uri: the store that the campaign was sent to.
        phase: name of the phase.
        base: address of the server; by default the store's, or for a database that of `ui`.

    Raises:
        UserError: fewer than two trials of the phase are in the store.
    """
    key = f"{sent_state.store_key(tracking_uri)}/{phase}"
    trials = [trial for trial in declarations.load(folder).trials.values() if trial.phase == phase]
    sent = [Sent.load(trial.folder.sent_file, key) for trial in trials]
    there = [entry for entry in sent if entry.run_id and entry.experiment_id]
    if len(there) < 2:
        raise UserError(
            f"{phase} of {folder.name} has {len(there)} of {len(trials)} trials in MLflow; two are needed to compare: "
            "`python -m cluster report` sends what is missing"
        )
    base = base or (tracking_uri if tracking_uri.startswith("http") else f"http://{HOST}:{PORT}")
    experiments = list(dict.fromkeys(str(entry.experiment_id) for entry in there))
    return compare_url(base, experiments, [str(entry.run_id) for entry in there])
