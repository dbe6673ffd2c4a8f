"""A Slurm of its own on this machine: munged, slurmctld and slurmd daemons with a configuration, ports and folders.

Needs root and Debian's packages slurm-wlm and munge. Its nodes n1, n2 are slurmd daemons with four fake GPUs each.
"""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.waiting import wait_for

COMMANDS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol", "srun")
GPUS = 4
NULL_DEVICE = (1, 3)
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
GresTypes=gpu
JobRequeue=1
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=16000 Gres=gpu:h100:4"


def no_slurm() -> str | None:
    """Return why there can be no Slurm here, or None if there can be."""
    if missing := [name for name in COMMANDS if _path(name) is None]:
        return f"no {', '.join(missing)}: `make services` installs slurm-wlm and munge"
    return None if os.geteuid() == 0 else "Slurm's daemons need root"


class Slurm:
    """A running Slurm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        """Run one of Slurm's commands and return what it printed."""
        environment = {**self.environment, **variables}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """Return what Slurm knows of a job: JobState, ExitCode, Restarts, RunTime and more."""
        words = self.run("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def slurm(nodes: Sequence[str] = ("n1", "n2")) -> Iterator[Slurm]:
    """Start a Slurm, yield it once its nodes are idle, and end its jobs and daemons afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    own = Slurm(folder)
    try:
        with ExitStack() as daemons:
            _configure(folder, nodes)
            key = folder / "munge" / "key"
            subprocess.run([str(_path("mungekey")), "--create", f"--keyfile={key}"], check=True)
            files = [f"--{name}={folder}/munge/{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
            daemons.enter_context(_daemon(own, "munged", "--foreground", "--force", f"--key-file={key}", *files))
            wait_for((folder / "munge" / "socket").exists, 20, "munged listens")
            conf = str(folder / "slurm.conf")
            daemons.enter_context(_daemon(own, "slurmctld", "-D", "-f", conf))
            for name in nodes:
                daemons.enter_context(_daemon(own, "slurmd", "-D", "-N", name, "-f", conf))
            wait_for(lambda: _idle(own) == len(nodes), 60, "the nodes are idle")
            try:
                yield own
            finally:
                _end_jobs(own)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, nodes: Sequence[str]) -> None:
    host = socket.gethostname().split(".")[0]
    controller, *ports = free_ports(1 + len(nodes))
    lines = [NODE.format(name=name, host=host, port=port) for name, port in zip(nodes, ports, strict=True)]
    for name in ("munge", "state"):
        (folder / name).mkdir(mode=0o700)
    devices = [folder / f"gpu{number}" for number in range(GPUS)]
    for device in devices:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(*NULL_DEVICE))
    text = CONFIGURATION.format(host=host, controller_port=controller, folder=folder, nodes="\n".join(lines))
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"Name=gpu Type=h100 File={folder}/gpu[0-{GPUS - 1}]\n")


@contextmanager
def _daemon(own: Slurm, name: str, *arguments: str) -> Iterator[None]:
    with (own.folder / f"{name}.out").open("ab") as out:
        process = subprocess.Popen(
            [str(_path(name)), *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**own.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _idle(own: Slurm) -> int:
    done = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format=%T"],
        capture_output=True,
        text=True,
        check=False,
        env=own.environment,
    )
    return done.stdout.split().count("idle")


def _end_jobs(own: Slurm) -> None:
    numbers = own.run("squeue", "--noheader", "--format=%i").split()
    if numbers:
        own.run("scancel", *numbers)
        wait_for(lambda: not own.run("squeue", "--noheader", "--format=%i").split(), 90, "all jobs have ended")


def _path(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
