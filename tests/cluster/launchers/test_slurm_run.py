"""The Slurm script run for real, with `srun` and `scontrol` stubs that start every task on this machine."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.launchers.slurm import render
from ray_bridge import paper_run
from tests.support.launches import paper_launch
from tests.support.waiting import wait_for

# Starts --ntasks tasks and forwards TERM to all of them, as srun does.
SRUN = """#!/usr/bin/env bash
ntasks=1
while [[ $1 == -* ]]; do
    [[ $1 != --ntasks=* ]] || ntasks=${1#*=}
    shift
done
pids=()
for ((task = 0; task < ntasks; task++)); do
    "$@" &
    pids+=($!)
done
trap 'kill -TERM "${pids[@]}"' TERM
code=0
for pid in "${pids[@]}"; do
    until wait "$pid"; this=$?; ! kill -0 "$pid" 2>/dev/null; do :; done
    ((this == 0)) || code=$this
done
exit "$code"
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*"
"""
MODULES = ("gcc/13.1.0", "conda/24.3.0-0")
PHASE = """
import os, signal, sys, time
import ray
ray.init(log_to_driver=False, logging_level="ERROR")
@ray.remote(num_gpus=2)
def where():
    return os.environ["LOADED"]
nodes = sum(node["Alive"] for node in ray.nodes())
print("phase", sys.argv[1:], ray.get(where.remote()), nodes, ray.cluster_resources()["GPU"], flush=True)
def end(*_):
    print("phase was asked to end", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR2, end)
while not os.path.exists(sys.argv[-1]):
    time.sleep(0.1)
print("still there", ray.get(where.remote()), flush=True)
sys.exit(2)
"""


class SlurmJob:
    """A script that runs as Slurm's batch shell would run it."""

    def __init__(self, folder: Path, number: int, nodes: int, tools: Path) -> None:
        self.number, self.log, self.go = number, folder / f"{number}.log", folder / f"{number}.go"
        launch = paper_launch(
            *("--storage", "runs", "--go", str(self.go)),
            run=paper_run(workers=2, cpus_per_worker=0.5),
            nodes=nodes,
            site={"environment": None, "modules": MODULES, "cpus": 2},
        )
        script = folder / f"{number}.sh"
        script.write_text(render(launch))
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "SLURM_", "PYTHONPATH"))},
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BASH_FUNC_module%%": '() { echo module $*; if [ $1 = load ]; then shift; export LOADED="$*"; fi\n}',
            "SLURM_SUBMIT_DIR": str(folder / "project"),
            "SLURM_JOB_ID": str(number),
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_CPUS_PER_TASK": "2",
            "RAY_health_check_initial_delay_ms": "0",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["bash", str(script)],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )

    def printed(self, text: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return text in self.log.read_text()

    def processes(self) -> list[str]:
        """Return the command lines of processes that work in this job's folders."""
        lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
        return [line for line in lines if f"/tmp/ray-{self.number}-" in line]

    def folders(self) -> list[Path]:
        return list(Path("/tmp").glob(f"ray-{self.number}-*"))


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    (tmp_path / "project" / "cluster").mkdir(parents=True)
    (tmp_path / "project" / "cluster" / "__init__.py").touch()
    (tmp_path / "project" / "cluster" / "__main__.py").write_text(PHASE)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def jobs(tmp_path: Path, tools: Path) -> Iterator[tuple[SlurmJob, SlurmJob]]:
    """One job on one node and one on two, with numbers 1,500 apart, all on this machine."""
    number = os.getpid() * 3
    started = []
    try:
        started.append(SlurmJob(tmp_path, number, 1, tools))
        started.append(SlurmJob(tmp_path, number + 1500, 2, tools))
        yield started[0], started[1]
    finally:
        for job in started:
            if job.process.poll() is None:
                os.killpg(job.process.pid, signal.SIGKILL)
                job.process.wait(30)
            for folder in job.folders():
                shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_two_jobs_on_one_machine_end_their_own_ray_only(jobs: tuple[SlurmJob, SlurmJob]) -> None:
    """One reaches its time limit, the other continues and returns its exit code; nothing of either is left."""
    limited, whole = jobs
    for job in jobs:
        wait_for(lambda job=job: job.printed("phase ["), 180, "both phases run")
    arguments = f"['phase1', '--storage', 'runs', '--go', '{whole.go}']"
    assert f"module load {' '.join(MODULES)}" in whole.log.read_text()
    assert f"{arguments} {' '.join(MODULES)} 2 4.0" in whole.log.read_text(), "two nodes with two GPUs each"
    assert " 1 2.0\n" in limited.log.read_text(), "the jobs have a Ray each"
    assert limited.processes()
    assert len(whole.folders()) == 2, "a folder a node"

    limited.process.send_signal(signal.SIGUSR1)
    assert limited.process.wait(90) == 7, limited.log.read_text()
    assert "phase was asked to end" in limited.log.read_text()
    assert f"scontrol requeue {limited.number}" in limited.log.read_text()
    assert not limited.processes()
    assert not limited.folders()

    whole.go.touch()
    assert whole.process.wait(90) == 2, whole.log.read_text()
    assert "still there" in whole.log.read_text(), "its Ray survived the other job's end"
    assert "scontrol" not in whole.log.read_text(), "a failure is not queued again"
    assert not whole.processes()
    assert not whole.folders()


@pytest.mark.slow
def test_a_ray_that_does_not_start_is_tried_three_times_and_then_an_error(tmp_path: Path, tools: Path) -> None:
    (tools / "srun").write_text("#!/usr/bin/env bash\necho an attempt; exit 3\n")
    job = SlurmJob(tmp_path, os.getpid() * 3 + 1, 1, tools)
    assert job.process.wait(60) == 1
    assert job.log.read_text().count("an attempt") == 3
    assert "error: Ray ended three times while it started; its messages are above" in job.log.read_text()
    assert not job.folders()


def test_a_job_that_is_ended_while_ray_starts_leaves_nothing(tmp_path: Path, tools: Path) -> None:
    (tools / "srun").write_text("#!/usr/bin/env bash\necho starts; exec sleep 600\n")
    job = SlurmJob(tmp_path, os.getpid() * 3 + 2, 1, tools)
    wait_for(lambda: job.printed("starts"), 30, "srun runs")
    [srun] = [
        child
        for child in psutil.Process(job.process.pid).children()
        if child.name() == "sleep" and "600" in child.cmdline()
    ]
    job.process.terminate()
    assert job.process.wait(30) == 143
    assert not srun.is_running()
    assert not job.folders()
