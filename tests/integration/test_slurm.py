"""The generated script under a real Slurm: to its end on two nodes, and cut off by the time limit and queued again."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge_common import files
from cluster.launchers.slurm import render
from ray_bridge import paper_run, tiny_run
from tests.support.campaigns import NAME, PLACED, journal, prepare, steps
from tests.support.launches import paper_launch
from tests.support.mlflow_store import copy_database, empty_database
from tests.support.ray_clusters import ROOT
from tests.support.slurm import Slurm, no_slurm, slurm
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
PHASE = """
import os, signal, sys, time
import ray
ray.init(log_to_driver=False, logging_level="ERROR")
nodes = sum(node["Alive"] for node in ray.nodes())
print("phase runs on", nodes, "nodes with", ray.cluster_resources()["GPU"], "GPUs", flush=True)
def end(*_):
    print("phase was asked to end", flush=True)
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR2, end)
while not os.path.exists(sys.argv[-1]):
    time.sleep(0.1)
ray.get(ray.remote(num_gpus=2)(lambda: None).remote())
print("phase ends", flush=True)
"""


@pytest.fixture(scope="module")
def own_slurm() -> Iterator[Slurm]:
    if reason := no_slurm():
        pytest.skip(reason)
    with slurm() as own:
        yield own


class Job:
    """A submitted script."""

    def __init__(
        self, own: Slurm, folder: Path, name: str, arguments: Sequence[str], *options: str, project: Path, **launch: Any
    ) -> None:
        self.slurm, self.log = own, folder / f"{name}.log"
        site = {"environment": None, "project": str(project), "cpus": 2, "memory_gb": 4, "hours": 1}
        rendered = paper_launch(*arguments, site=site, **launch)
        script = folder / f"{name}.sh"
        script.write_text(render(rendered))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = ["sbatch", "--parsable", f"--output={self.log}", *options, str(script)]
        self.number = own.run(*command, cwd=folder, PATH=path).strip()

    def printed(self, text: str, times: int = 1) -> bool:
        return self.log.is_file() and self.log.read_text().count(text) >= times

    @property
    def state(self) -> str:
        return self.slurm.job(self.number)["JobState"]

    def processes(self) -> list[str]:
        """Return the command lines of processes that work in this job's folders."""
        lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
        return [line for line in lines if f"/tmp/ray-{self.number}-" in line]

    def limit(self, minutes: int) -> None:
        """Set the time limit, counted from now."""
        hours, ran, _ = map(int, self.slurm.job(self.number)["RunTime"].split(":"))
        self.slurm.run("scontrol", "update", f"JobId={self.number}", f"TimeLimit={60 * hours + ran + minutes}")


class Waiting(Job):
    """A submitted script, whose phase ends once a file exists."""

    def __init__(self, own: Slurm, folder: Path, name: str, nodes: int, *options: str) -> None:
        self.go = folder / f"{name}.go"
        run = paper_run(workers=2, cpus_per_worker=0.5)
        arguments = ("--storage", "runs", "--go", str(self.go))
        super().__init__(own, folder, name, arguments, *options, project=folder, run=run, nodes=nodes)


def test_to_its_end_and_cut_off_with_two_jobs_on_one_node(tmp_path: Path, own_slurm: Slurm) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "__init__.py").touch()
    (tmp_path / "cluster" / "__main__.py").write_text(PHASE)
    whole = Waiting(own_slurm, tmp_path, "whole", 2)
    limited = Waiting(own_slurm, tmp_path, "limited", 1, "--nodelist=n1")
    wait_for(lambda: whole.printed("phase runs on 2 nodes with 4.0 GPUs"), 180, "the job on two nodes runs")
    wait_for(lambda: limited.printed("phase runs on 1 nodes with 2.0 GPUs"), 180, "another runs beside it on n1")
    assert whole.state == limited.state == "RUNNING"

    limited.limit(2)  # when Slurm sends the notice that the script asks for
    wait_for(lambda: limited.printed("phase was asked to end"), 120, "the time limit is near")
    wait_for(lambda: limited.printed("the job is queued again, and continues from its checkpoints"), 60, "requeue")
    limited.limit(60)  # its second run has time
    whole.go.touch()
    wait_for(lambda: whole.state == "COMPLETED", 90, "the other job ends by itself")
    assert whole.slurm.job(whole.number)["ExitCode"] == "0:0"
    assert whole.printed("phase ends"), "its Ray survived the end of the other job's"
    assert not whole.processes()

    wait_for(lambda: limited.printed("phase runs on 1 nodes with 2.0 GPUs", times=2), 180, "it starts again")
    assert own_slurm.job(limited.number)["Restarts"] == "1"
    limited.go.touch()
    wait_for(lambda: limited.state == "COMPLETED", 90, "and ends")
    assert not limited.processes()


@pytest.mark.long
def test_near_the_time_limit_trials_write_a_checkpoint_and_the_queued_job_goes_on_from_it(
    tmp_path: Path, own_slurm: Slurm
) -> None:
    """The real phase. A step takes 10 s, longer than a phase has that is ended by SIGTERM."""
    prepare(storage := tmp_path / "runs", {"full": 0.72}, steps=1000, pause=10)
    copy_database(empty_database(), storage)
    arguments = ("--storage", str(storage), "--job", PLACED, "--skip-preflight", "--set", "test_examples=10000")
    job = Job(own_slurm, tmp_path, "phase", arguments, project=ROOT, run=tiny_run(workers=1))
    wait_for(lambda: steps(storage, "full"), 240, "the trial has done a step")
    job.limit(2)
    wait_for(lambda: job.printed("the job is queued again"), 120, "the time limit is near")
    done = len(steps(storage, "full"))
    last = journal(storage)[-1]
    assert last["event"] == "step"
    assert done >= 2, "it ended the step in which the notice came"
    assert [row["status"] for row in _statuses(storage)] == ["RUNNING", "KILLED"]
    stop = files.read_json(storage / NAME / "campaign.json")["starts"][-1]["stopped"]
    assert stop["reason"] == "SIGUSR2: a time limit is near"
    prepare(storage, {"full": 0.72}, steps=done + 1)
    job.limit(60)
    wait_for(lambda: job.state == "COMPLETED", 240, f"the second run ends: {job.log.read_text()[-500:]}")
    assert own_slurm.job(job.number)["Restarts"] == "1"
    assert steps(storage, "full") == list(range(done + 1)), "no step is done twice"
    assert not job.processes()


def _statuses(storage: Path) -> list[dict[str, Any]]:
    (trial,) = (storage / NAME / "trials").iterdir()
    return [row for row in files.read_log(trial / "events.jsonl") if row["kind"] == "status"]
