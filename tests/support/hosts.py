"""Hosts on one machine: network namespaces joined by a bridge, each with a Ray node. Needs root and iproute2.

Processes of different hosts see each other by the network alone, and the file system is their shared storage.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.campaigns import driver, driver_log, end
from tests.support.ray_clusters import ENVIRONMENT, ROOT, SMALL_STORE
from tests.support.waiting import wait_for

RAY = str(Path(sys.executable).with_name("ray"))
GCS_PORT = 6379


def no_hosts() -> str | None:
    """Return why there can be no hosts here, or None if there can be."""
    if shutil.which("ip") is None:
        return "no iproute2: `make services` installs it"
    name = f"probe{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"network namespaces are not allowed here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


class Hosts:
    """A network of hosts. The first one has the Ray head, without CPUs and GPUs for jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tag = f"ab{os.getpid() % 100_000}"
        self._made = 0
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        _ip("link", "add", self._tag, "type", "bridge")
        _ip("link", "set", self._tag, "up")

    @property
    def address(self) -> str:
        """Address of the Ray head."""
        return f"{self.ip(0)}:{GCS_PORT}"

    def ip(self, host: int) -> str:
        """Return a host's address."""
        return f"10.77.0.{host + 1}"

    def add(self, *, cpus: float = 0, gpus: int = 0, kind: str | None = None) -> int:
        """Add a host with a Ray node and return its number.

        Args:
            cpus: CPUs of the node.
            gpus: its fake GPUs.
            kind: Ray's name of their kind.
        """
        host, self._made = self._made, self._made + 1
        space, cable = self._space(host), f"{self._tag}v{host}"
        _ip("netns", "add", space)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", cable, "master", self._tag, "up")
        for command in (("addr", "add", f"{self.ip(host)}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            _ip("-n", space, *command)
        _ip("-n", space, "link", "set", "lo", "up")
        place = (
            ["--head", f"--port={GCS_PORT}", "--dashboard-host=127.0.0.1"] if not host else ["--address", self.address]
        )
        options = [f"--node-ip-address={self.ip(host)}", f"--num-cpus={cpus:g}", f"--num-gpus={gpus}"]
        options += [f"--object-store-memory={SMALL_STORE['object_store_memory']}", f"--temp-dir={self.folder}/{host}"]
        if kind:
            options.append(f'--resources={{"accelerator_type:{kind}": 1}}')
        log = self.folder / f"{host}.log"
        with log.open("wb") as out:
            self._nodes[host] = subprocess.Popen(
                self.command(host, [RAY, "start", "--block", "--disable-usage-stats", *place, *options]),
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ENVIRONMENT},
            )
        wait_for(lambda: b"Ray runtime started" in log.read_bytes(), 90, f"the Ray node of host {host} starts")
        return host

    def command(self, host: int, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command on a host."""
        return ["ip", "netns", "exec", self._space(host), *command]

    def run(self, host: int, code: str) -> str:
        """Run Python code on a host and return what it printed."""
        command = self.command(host, [sys.executable, "-c", code])
        environment = {**os.environ, **ENVIRONMENT, "RAY_ADDRESS": self.address}
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT, timeout=120
        )
        return done.stdout

    def kill(self, host: int) -> None:
        """End every process of a host at once, as a power failure does."""
        pids = subprocess.run(["ip", "netns", "pids", self._space(host)], capture_output=True, text=True, check=True)
        for pid in pids.stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        if node := self._nodes.pop(host, None):
            node.wait(30)

    def cut(self, host: int) -> None:
        """Cut a host's network: packets to and from it are dropped."""
        _ip("link", "set", f"{self._tag}v{host}", "down")

    def mend(self, host: int) -> None:
        """Restore the network of a host."""
        _ip("link", "set", f"{self._tag}v{host}", "up")

    def remove(self) -> None:
        """End all hosts and their network."""
        for host in reversed(range(self._made)):
            self.kill(host)
            with suppress(AssertionError):  # it is gone already; with its namespace it would go only some time later
                _ip("link", "del", f"{self._tag}v{host}")
            _ip("netns", "del", self._space(host))
        _ip("link", "del", self._tag)

    def _space(self, host: int) -> str:
        return f"{self._tag}-{host}"


@contextmanager
def hosts() -> Iterator[Hosts]:
    """Yield a network of hosts with a Ray head, and remove all of it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hosts-", dir="/tmp"))  # short: paths of sockets have 107 bytes at most
    network = Hosts(folder)
    try:
        network.add()
        yield network
    finally:
        network.remove()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ablating(storage: Path, network: Hosts, *arguments: str, job: str) -> "Iterator[subprocess.Popen[str]]":
    """Run `ablate` on the first host; afterwards kill it if it still runs, and print its log."""
    process = driver(
        *(storage, *arguments),
        phase="ablate",
        job=job,
        address=network.address,
        on=lambda command: network.command(0, command),
    )
    try:
        yield process
    finally:
        end(process)
        print(driver_log(storage))


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
