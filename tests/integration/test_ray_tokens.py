"""A cluster that wants a token: whoever has none or another gets one line with the remedy, whatever command asks."""

import getpass
import os
import shutil
import socket
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


SSHD, SSH = "/usr/sbin/sshd", shutil.which("ssh")


@pytest.fixture
def tunnel(head: tuple[str, str], tmp_path: Path) -> Iterator[str]:
    """Yield the address at which an SSH tunnel carries the dashboard's, as docs/recipes.md makes one."""
    if not (Path(SSHD).is_file() and SSH and shutil.which("ssh-keygen")):
        pytest.skip("no OpenSSH server: `make services` installs it")
    port, local = free_ports(2)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host",
        "PidFile": tmp_path / "pid",
        "AuthorizedKeysFile": tmp_path / "user.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "yes",
    }
    (tmp_path / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=subprocess.DEVNULL)
    dashboard = head[1].removeprefix("http://")
    user = getpass.getuser()
    known = (
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        f"UserKnownHostsFile={tmp_path / 'known'}",
        "-i",
        tmp_path / "user",
    )
    command = [SSH, "-N", *known, "-p", str(port), "-L", f"{local}:{dashboard}", f"{user}@127.0.0.1"]
    try:
        wait_for(lambda: answers(port), 20, "sshd answers")
        client = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: answers(local) or client.poll() is not None, 20, "the tunnel is open")
            yield f"http://127.0.0.1:{local}"
        finally:
            client.terminate()
            client.wait(10)
    finally:
        server.terminate()
        server.wait(10)


def answers(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_through_an_ssh_tunnel_the_token_is_wanted_and_enough(tunnel: str, tmp_path: Path) -> None:
    own = {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    done = call("jobs", "list", "--address", tunnel, RAY_AUTH_TOKEN=TOKEN, **own)
    assert done.returncode == 0, done.stderr
    assert "no phase was submitted" in done.stdout
    refused = call("jobs", "list", "--address", tunnel, RAY_AUTH_TOKEN="b" * 64, **own)
    assert is_one_error_line(refused), refused.stderr
