"""A cluster that wants a token: whoever has none or another gets one line with the remedy, whatever command asks."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import call, is_one_error_line
from tests.support.ports import free_ports
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
TOKEN = "a" * 64


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, str]]:
    """Yield the addresses of head and dashboard of a Ray with a token."""
    folder = Path(tempfile.mkdtemp(prefix="token-", dir="/tmp"))
    port, dashboard, client = free_ports(3)
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}"),
                *(f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", "--num-cpus=1"),
                *("--dashboard-agent-listen-port=0", f"--temp-dir={folder}", "--object-store-memory=80000000"),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        )
    try:
        wait_for(lambda: b"Ray runtime started" in log.read_bytes(), 90, "the head starts")
        yield f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    "token", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64}]
)
def test_another_token_or_none_is_one_line(head: tuple[str, str], tmp_path: Path, token: dict[str, str]) -> None:
    own = {**token, "HOME": str(tmp_path)}
    submitted = call("submit", "phase1", "--address", head[1], **own)
    joined = call("phase1", "--storage", str(tmp_path), RAY_ADDRESS=head[0], **own)
    for done in (submitted, joined):
        assert is_one_error_line(done), done.stderr
        assert "wants a token, and the one here is missing or another: set RAY_AUTH_MODE=token" in done.stderr


def test_with_the_token_it_answers(head: tuple[str, str], tmp_path: Path) -> None:
    done = call("jobs", "list", "--address", head[1], RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "no phase was submitted" in done.stdout
