"""A translator and MLflow's pages that are served by the commands, each in a process of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from mlflow_utils.server import is_up
from tests.support.command_line import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_for


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers.

    Attributes:
        url: its address.
        process: the command.
        seconds_to_start: from the command to its line with the address.
    """

    url: str
    process: "subprocess.Popen[str]"
    seconds_to_start: float

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the server by a signal to the whole process group, as a terminal does, and return its exit code."""
        os.killpg(self.process.pid, number)
        return self.process.wait(60)


@contextmanager
def serving(place: Path, *arguments: str, log: Path, limit_s: float = 240, **environment: str) -> Iterator[Server]:
    """Serve a translator until the block ends.

    Args:
        place: of the translator.
        arguments: further options.
        log: takes what the command prints.
        limit_s: seconds within which it must answer.
        environment: further variables.
    """
    port, began = free_port(), time.monotonic()
    with starting(place, "--port", str(port), *arguments, log=log, **environment) as process:
        wait_for(lambda: " answers at " in log.read_text() or process.poll() is not None, limit_s, "the server answers")
        assert process.poll() is None, log.read_text()
        yield Server(url=f"http://127.0.0.1:{port}", process=process, seconds_to_start=time.monotonic() - began)


@contextmanager
def starting(place: Path, *arguments: str, log: Path, **environment: str) -> "Iterator[subprocess.Popen[str]]":
    """Start the command that serves a translator, in a process group of its own, which ends with the block at last."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "ABLATE_SERVE_TOKEN")}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster", "serve", str(place), *arguments],
            cwd=ROOT,
            env={**kept, "CUDA_VISIBLE_DEVICES": "", **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def mlflow_pages(storage: Path, *arguments: str, port: int | None = None) -> Iterator[str]:
    """Serve MLflow's pages by the command `ui` until the block ends, and yield their address.

    Args:
        storage: folder of the campaigns.
        arguments: further options.
        port: of the address; any that is free if None.
    """
    url = f"http://127.0.0.1:{port or free_port()}"
    options = ["--storage", str(storage), "--port", url.rpartition(":")[2], *arguments]
    command = [sys.executable, "-m", "cluster", "ui", *options]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as process,
    ):
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if "MLflow:" in line), "")
            errors.seek(0)
            assert url in line, line or errors.read()
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert process.returncode == 0
    assert not is_up(url), "the server is gone with its command"


def answers(url: str) -> bool:
    """Return whether a server says that it is healthy."""
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
