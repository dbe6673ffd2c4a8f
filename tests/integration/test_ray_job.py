"""Jobs on a real `ray start --head`: exit codes, logs, variables, stop, resume and broken connections."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from bridge_common import files
from bridge_common.errors import UserError
from bridge_common.git import GIT_FACTS, git_facts
from cluster.jobs.client import connect
from cluster.jobs.follow import Follower
from cluster.jobs.manage import stop_jobs, submitted_jobs
from cluster.jobs.submit import submit
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaigns import DIRECT, prepare, steps
from tests.support.plugin_modules import EXAMPLE
from tests.support.ports import free_ports
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

ENTRY = """
import json, os, sys, time
from pathlib import Path
task, *rest = sys.argv[1:]
if task == "look":
    import ray
    ray.init(log_to_driver=False)
    there = ray.get(ray.remote(lambda: [os.environ.get("NOTE"), sorted(os.listdir("."))]).remote())
    here = [os.environ.get("NOTE"), sorted(os.listdir("."))]
    print("found " + json.dumps([*here, there, os.environ["ABLATE_GIT"], rest]))
elif task == "count":
    for number in range(60):
        print("line", number, "x" * 200, flush=True)
        time.sleep(0.1)
elif task == "hold":
    import ray
    ray.init(log_to_driver=False)
    holder = ray.remote(num_gpus=2)(type("Holder", (), {"here": lambda self: True})).remote()
    print("holds", ray.get(holder.here.remote()), flush=True)
    time.sleep(600)
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture(scope="module")
def head():
    """Start a head on ports and in a folder of its own, and yield its dashboard's address."""
    temporary = tempfile.mkdtemp(prefix="rj", dir="/tmp")
    gcs, dashboard, agent, agent_grpc, environment_agent, metrics, client = free_ports(7)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": temporary,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    os.environ["RAY_AUTH_MODE"] = "disabled"
    command = ["ray", "start", "--head", "--block", f"--port={gcs}", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
    command += [f"--runtime-env-agent-port={environment_agent}", f"--metrics-export-port={metrics}"]
    command += [f"--ray-client-server-port={client}", f"--temp-dir={temporary}", "--num-cpus=4", "--num-gpus=2"]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000"]
    log = Path(temporary) / "head.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"{address}/api/jobs/", timeout=5) as answer:
                    answer.read()
                break
            time.sleep(0.5)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture
def project(tmp_path):
    """Make a small project whose `python -m cluster` is `ENTRY`, with files that must not be uploaded."""
    folder = tmp_path / "project"
    for name in ("cluster", "runs/old", ".venv/lib", ".git"):
        (folder / name).mkdir(parents=True)
    (folder / "cluster" / "__main__.py").write_text(ENTRY)
    (folder / "cluster" / "__init__.py").touch()  # else a package `cluster` anywhere on PYTHONPATH comes before it
    (folder / "runs" / "old" / "big").write_bytes(os.urandom(1000))
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def test_a_job_sees_its_code_and_variables_and_nothing_else(head, project):
    printed: list[str] = []
    code = submit(
        "look",
        ["--storage", "/data/runs"],
        address=head,
        env=["NOTE=seen", "CODE=2"],
        working_dir=project,
        out=printed.append,
    )
    log = "".join(printed)
    assert code == 2, log
    note, files, there, git, arguments = json.loads(log.split("found ")[1].splitlines()[0])
    assert (note, files, arguments) == ("seen", ["cluster"], ["--storage", "/data/runs"])
    assert there == ["seen", ["cluster"]], "workers see the same as the driver"
    assert json.loads(git)["problem"], "a repository without commits is reported as a problem"
    assert "failed with exit code 2" in log
    [row] = [row for row in submitted_jobs(connect(head)) if row.phase == "look"]
    assert (row.status, row.exit_code, row.ours) == ("FAILED", 2, True)
    assert GIT_FACTS == "ABLATE_GIT"
    listed = cluster_command("jobs", "list", "--address", head)
    assert f"{row.id}: FAILED, exit code 2, started " in listed.stdout, listed.stderr
    again = cluster_command("jobs", "follow", row.id, "--address", head)
    assert again.returncode == 2, "the phase's own exit code"
    assert "found [" in again.stdout
    absent = cluster_command("jobs", "follow", "absent", "--address", head)
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)
    assert "no job absent" in absent.stderr
    stopped = cluster_command("jobs", "stop", row.id, "--address", head)
    assert (stopped.returncode, stopped.stdout) == (0, "no submitted phase was running\n")


def cluster_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cluster", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


class Relay:
    """A TCP relay in front of the dashboard that can close its connections, or hold back the answers."""

    def __init__(self, address: str) -> None:
        self.target = int(address.rpartition(":")[2])
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.silent = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client = self.server.accept()[0]
                dashboard = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.pairs.append((client, dashboard))
            for source, sink in ((client, dashboard), (dashboard, client)):
                threading.Thread(target=self.forward, args=(source, sink), daemon=True).start()

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.silent:
                    time.sleep(0.1)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def test_a_log_is_complete_and_printed_once_although_connections_break(head, project):
    relay = Relay(head)
    printed: list[str] = []

    def out(text: str) -> None:
        printed.append(text)
        if any(f"line {number} " in text for number in (10, 30)):
            threading.Thread(target=relay.cut).start()

    assert submit("count", ["--storage", "/x"], address=relay.address, working_dir=project, out=out) == 0
    lines = [line.split()[1] for line in "".join(printed).splitlines() if line.startswith("line ")]
    assert lines == [str(number) for number in range(60)]
    relay.server.close()


def submitted(printed: list[str]) -> str:
    """Return the id of the job that a submission names, after the line on what is uploaded."""
    return next(line.split()[1] for line in printed if line.startswith("job "))


def test_ctrl_c_ends_the_printing_and_not_the_job(head, project):
    printed: list[str] = []

    def out(text: str) -> None:
        printed.append(text)
        if "line 5 " in text:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        assert submit("count", ["--storage", "/x"], address=head, working_dir=project, out=out) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    job = submitted(printed)
    assert printed[-1].startswith("\nthe job continues; to stop it: ")
    assert printed[-1].endswith(f" jobs stop {job}\n")
    [row] = [row for row in submitted_jobs(connect(head)) if row.id == job]
    assert row.status == "RUNNING"
    assert stop_jobs(job, address=head) == [job]


def test_following_ends_when_the_head_is_silent_and_a_stop_frees_the_gpus(head, project):
    relay = Relay(head)
    client = connect(relay.address)
    printed: list[str] = []
    code = submit("hold", ["--storage", "/x"], address=head, working_dir=project, follow=False, out=printed.append)
    assert code == 0
    job = submitted(printed)
    wait_for(lambda: free_gpus(head) == 0, 90)
    relay.silent = True
    start = time.monotonic()
    with pytest.raises(UserError, match=r"has not answered for 2 s .* submit again"):
        Follower(client, job, printed.append, gone_s=2, answer_s=3).run()
    assert time.monotonic() - start < 30
    assert stop_jobs(job, address=head) == [job]
    stopped = time.monotonic()
    wait_for(lambda: free_gpus(head) == 2, 10)
    assert time.monotonic() - stopped < 10, "its GPUs are free soon after"
    assert stop_jobs(job, address=head) == [], "a second stop finds nothing to stop"
    with pytest.raises(UserError, match="no job absent"):
        stop_jobs("absent", address=head)
    [row] = [row for row in submitted_jobs(connect(head)) if row.id == job]
    assert (row.status, row.exit_code) == ("STOPPED", 1)


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(storage):
    """Return the arguments of a phase 1 of cheap jobs."""
    prepare(storage, {"full": 0.72}, n=1000, steps=40, pause=0.5)
    return ["--storage", str(storage), "--job", DIRECT]


def test_a_job_that_was_stopped_resumes_when_submitted_again(head, storage, arguments):
    printed: list[str] = []
    submit("phase1", arguments, address=head, working_dir=ROOT, follow=False, out=printed.append)
    job = submitted(printed)
    wait_for(lambda: len(steps(storage, "full")) >= 3, 180)
    assert job in stop_jobs(address=head)
    assert len(steps(storage, "full")) < 40
    assert not list(storage.glob("*/trials/*/result.json"))
    [record] = storage.glob("*/campaign.json")
    assert files.read_json(record)["starts"][-1]["stopped"]["reason"] == "SIGTERM", "Ray has let it end by itself"
    prepare(storage, {"full": 0.72}, n=1000, steps=40)
    assert submit("phase1", arguments, address=head, working_dir=ROOT, out=printed.append) == 0, "".join(printed)
    assert sorted(set(steps(storage, "full"))) == list(range(40))
    assert len(steps(storage, "full")) <= 41, "at most the step that was cut short is done again"
    assert len(list(storage.glob("*/trials/*/result.json"))) == 1
    [folder] = [path.parent for path in storage.glob("*/plan.json")]
    recorded = mlflow_records.runs(default_tracking_uri(storage), folder.name)
    commit = git_facts(ROOT)["commit"]
    assert {run.data.tags.get("git_commit") for run in recorded} == {commit}, (
        "although the uploaded copy has no git history"
    )


def test_a_plug_in_in_the_folder_that_is_sent(head, storage, arguments, tmp_path):
    """The job's driver and its trial find it; the packages are those that are installed."""
    prepare(storage, {"full": 0.72}, n=1000)
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "my_plugin.py").write_text(EXAMPLE)
    own = ["--plugin", "my_plugin", "--task", "my_plugin:Sums", "--set", "bridge=my_plugin:LowRank"]
    printed: list[str] = []
    code = submit(
        "phase1",
        [*arguments, *own],
        address=head,
        env=[f"PYTHONPATH={ROOT}"],
        working_dir=folder,
        out=printed.append,
    )
    assert code == 0, "".join(printed)
    [path] = storage.glob("*/trials/*/spec.json")
    assert json.loads(path.read_text())["spec"]["extra.rank"] == 8
    assert (path.parent / "result.json").is_file()


def free_gpus(address: str) -> float | None:
    """Return how many GPUs no job has, None where the head's latest report does not say."""
    with urllib.request.urlopen(f"{address}/api/cluster_status", timeout=10) as answer:
        usage = json.load(answer)["data"]["clusterStatus"]["loadMetricsReport"]["usage"].get("GPU")
    return None if usage is None else usage[1] - usage[0]


def test_rays_own_client_and_ours_report_a_wrong_request(head, storage, arguments):
    environment = {**os.environ, "RAY_API_SERVER_ADDRESS": head}
    ray = str(Path(sys.executable).parent / "ray")
    command = [ray, "job", "submit", "--working-dir", ".", "--", "python", "-m", "cluster", "phase1", *arguments]
    wrong = ["--preset", "tiny", "--set", "stepps=3"]
    done = subprocess.run(
        [*command, *wrong], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, "Ray's client knows no other code"
    assert "error: unknown field 'stepps': did you mean" in done.stdout
    ours = cluster_command("submit", "phase1", *arguments, *wrong, "--address", head)
    assert ours.returncode == 2
    assert "error: unknown field 'stepps'" in ours.stdout + ours.stderr
    assert not steps(storage, "full")
