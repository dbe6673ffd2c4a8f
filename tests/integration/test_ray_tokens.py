"""A cluster that wants a token: whoever has none or another gets one line with the remedy, whatever command asks."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.campaigns import DIRECT, prepare
from tests.support.command_line import call, is_one_error_line
from tests.support.mlflow_store import copy_database, empty_database
from tests.support.ports import free_ports
from tests.support.servers import mlflow_pages
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
TOKEN = "a" * 64


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, str]]:
    """Start a Ray with a token, and yield the addresses of head and dashboard."""
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
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # of the jobs
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": TOKEN,
            },
        )
    try:
        wait_for(lambda: b"Ray runtime started" in log.read_bytes(), 90, "the head starts")
        wait_for(lambda: answers(dashboard), 60, "its dashboard, which starts later, answers")
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


def lists_jobs(text: str) -> bool:
    """Return whether a text is what `jobs list` prints: no job yet, or that of another test."""
    return "no phase was submitted" in text or text.startswith("ablate-phase1-")


def test_with_the_token_it_answers(head: tuple[str, str], tmp_path: Path) -> None:
    done = call("jobs", "list", "--address", head[1], RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert lists_jobs(done.stdout)


def node_joins(head: str, folder: Path, **token: str) -> tuple[bool, str]:
    """Start a node with a token until it has joined or was refused; return which, and what it printed."""
    place, log = Path(tempfile.mkdtemp(prefix="node-", dir="/tmp")), folder / "node.log"
    command = [Path(sys.executable).with_name("ray"), "start", "--block", f"--address={head}", "--num-cpus=1"]
    command += ["--dashboard-agent-listen-port=0", f"--temp-dir={place}", "--object-store-memory=80000000"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(folder), **token}
        )
    try:
        wait_for(lambda: b"Ray runtime started" in log.read_bytes() or process.poll() is not None, 120, "it ends")
        return process.poll() is None and nodes(head) == 2, log.read_text()
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(place, ignore_errors=True)


def nodes(head: str) -> int:
    """Return how many nodes a cluster with the token has."""
    code = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "-c", code, head], env={**os.environ, **token}, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


@pytest.mark.parametrize("token", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "b" * 64}], ids=["none", "other"])
def test_a_node_with_another_token_or_none_is_refused(
    head: tuple[str, str], tmp_path: Path, token: dict[str, str]
) -> None:
    joined, said = node_joins(head[0], tmp_path, **{"RAY_AUTH_MODE": "token", **token})
    assert not joined
    last = said.strip().splitlines()[-1]
    assert "Authentication token is missing or incorrect" in last, said
    assert "ensure that the token is propagated to all nodes" in last
    assert nodes(head[0]) == 1


def test_a_node_with_the_token_joins(head: tuple[str, str], tmp_path: Path) -> None:
    joined, said = node_joins(head[0], tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert joined, said


SSHD, SSH = "/usr/sbin/sshd", shutil.which("ssh")


@dataclass(frozen=True, kw_only=True)
class Tunnel:
    """An SSH tunnel, as docs/recipes.md makes one.

    Attributes:
        dashboard: address here of the head's dashboard.
        mlflow: address here of what listens there at the port that is reserved.
        reserved: holds a port of the head's host until its user closes it.
    """

    dashboard: str
    mlflow: str
    reserved: socket.socket


@pytest.fixture
def tunnel(head: tuple[str, str], tmp_path: Path) -> Iterator[Tunnel]:
    """Open a tunnel of OpenSSH to the head's host."""
    if not (Path(SSHD).is_file() and SSH and shutil.which("ssh-keygen")):
        pytest.skip("no OpenSSH server: `make services` installs it")
    port, local, here, there = free_ports(4)
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", there))  # until MLflow's server takes it, which is a while
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
    forwards = ("-L", f"{local}:{dashboard}", "-L", f"{here}:127.0.0.1:{there}")
    command = [SSH, "-N", *known, "-p", str(port), *forwards, f"{user}@127.0.0.1"]
    try:
        wait_for(lambda: answers(port), 20, "sshd answers")
        client = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: answers(local) or client.poll() is not None, 20, "the tunnel is open")
            yield Tunnel(dashboard=f"http://127.0.0.1:{local}", mlflow=f"http://127.0.0.1:{here}", reserved=reserved)
        finally:
            client.terminate()
            client.wait(10)
    finally:
        reserved.close()
        server.terminate()
        server.wait(10)


def answers(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_through_an_ssh_tunnel_the_token_is_wanted_and_enough(tunnel: Tunnel, tmp_path: Path) -> None:
    own = {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    done = call("jobs", "list", "--address", tunnel.dashboard, RAY_AUTH_TOKEN=TOKEN, **own)
    assert done.returncode == 0, done.stderr
    assert lists_jobs(done.stdout)
    refused = call("jobs", "list", "--address", tunnel.dashboard, RAY_AUTH_TOKEN="b" * 64, **own)
    assert is_one_error_line(refused), refused.stderr


def test_a_phase_is_submitted_and_watched_through_the_tunnel(tunnel: Tunnel, tmp_path: Path) -> None:
    """The recipe's commands in their order; what runs on the head's host is started there, not through the tunnel."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "HOME": str(tmp_path)}
    storage = tmp_path / "runs"
    prepare(storage, {"full": 0.72})
    copy_database(empty_database(), storage)
    cheap = ("--job", DIRECT, "--skip-preflight", "--set", "test_examples=10000", "--set", "workers=1")
    done = call("submit", "phase1", "--storage", str(storage), "--address", tunnel.dashboard, *cheap, **own)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gate: " in done.stdout, "the job's log"
    listed = call("jobs", "list", "--address", tunnel.dashboard, **own)
    assert "SUCCEEDED" in listed.stdout, listed.stdout + listed.stderr

    mlflow_port = tunnel.reserved.getsockname()[1]
    tunnel.reserved.close()
    with mlflow_pages(storage, port=mlflow_port):
        watched = call("status", "--watch", "--tracking-uri", tunnel.mlflow, **own)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert "1 finished; nobody runs it" in watched.stdout
