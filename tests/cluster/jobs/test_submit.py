"""Submitting, as far as no cluster is needed: arguments, variables, exit codes, and addresses where nothing answers."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from cluster.default_paths import STORAGE, default_storage
from cluster.jobs import client
from cluster.jobs import submit as module
from cluster.jobs.client import connect
from cluster.jobs.follow import exit_code
from cluster.jobs.manage import print_jobs, stop_jobs
from cluster.jobs.submit import submit
from cluster.variables import PASSED_ON, job_variables


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR", STORAGE, *PASSED_ON):
        monkeypatch.delenv(name, raising=False)


def test_the_storage_is_one_that_the_next_submit_finds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_storage = module._with_storage
    assert with_storage(["--preset", "paper"], None) == ["--preset", "paper", "--storage", f"{tmp_path}/runs"]
    assert with_storage(["--storage", "x", "--seeds", "1"], None) == ["--storage", f"{tmp_path}/x", "--seeds", "1"]
    assert with_storage(["--storage=/data/y"], tmp_path) == ["--storage=/data/y"]
    assert with_storage(["--seeds", "1", "--storage=y"], None) == ["--seeds", "1", f"--storage={tmp_path}/y"]
    assert with_storage([], Path("/data")) == ["--storage", "/data"]
    monkeypatch.setenv(STORAGE, "/shared/runs")
    assert with_storage([], None) == ["--storage", "/shared/runs"]


def test_the_default_storage_is_not_the_copy_that_a_job_runs_in(monkeypatch):
    assert default_storage() == Path("runs")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert default_storage() == Path.home() / "ablate-runs"
    monkeypatch.setenv(STORAGE, "/shared/runs")
    assert default_storage() == Path("/shared/runs")


def test_variables_are_passed_on_but_no_secret_unasked(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m:5000")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert job_variables([]) == {"MLFLOW_TRACKING_URI": "http://m:5000"}
    asked = job_variables(["HF_TOKEN", "NOTE=a=b", "MLFLOW_TRACKING_URI=http://n:5000"])
    assert asked == {"HF_TOKEN": "hf_secret", "NOTE": "a=b", "MLFLOW_TRACKING_URI": "http://n:5000"}
    with pytest.raises(UserError, match="--env ABSENT_ONE"):
        job_variables(["ABSENT_ONE"])


def test_a_password_is_sent_only_if_it_is_named(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@m:5000")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI has a password, and Ray shows") as raised:
        job_variables([])
    assert "hunter2" not in str(raised.value)
    assert job_variables(["MLFLOW_TRACKING_URI"]) == {"MLFLOW_TRACKING_URI": "https://me:hunter2@m:5000"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me@m:5000")
    assert job_variables([]) == {"MLFLOW_TRACKING_URI": "https://me@m:5000"}


def test_the_storage_is_an_argument_of_the_phase_and_no_variable_of_the_job(monkeypatch):
    """A variable would move the default storage of everything that the job starts."""
    monkeypatch.setenv(STORAGE, "/here/runs")
    assert job_variables([]) == job_variables([STORAGE]) == job_variables([f"{STORAGE}=/there"]) == {}


@pytest.mark.parametrize(
    ("status", "driver", "message", "code"),
    [
        ("SUCCEEDED", 0, None, 0),
        ("FAILED", 2, "Job entrypoint command failed with exit code 2", 2),
        ("FAILED", None, "Job entrypoint command failed with exit code 2, last available logs", 2),
        ("FAILED", 1, None, 1),
        ("FAILED", -9, None, 1),
        ("FAILED", None, "Failed to set up runtime environment.", 1),
        ("FAILED", 0, None, 1),
        ("STOPPED", None, "Job was intentionally stopped.", 1),
        ("STOPPED", 2, "Job was intentionally stopped.", 1),
    ],
)
def test_exit_codes_of_rays_records(status, driver, message, code):
    from ray.dashboard.modules.job.pydantic_models import JobDetails, JobType

    kind = JobType.SUBMISSION
    details = JobDetails(type=kind, status=status, entrypoint="e", message=message, driver_exit_code=driver)
    assert exit_code(details) == code


class NotRay(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *arguments):
        pass


@pytest.mark.timeout(60)  # Ray's own client would wait for minutes
def test_where_no_dashboard_answers_it_says_so(monkeypatch):
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotRay)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = f"127.0.0.1:{unused.getsockname()[1]}"
        for call in (
            connect,
            lambda a: submit("phase1", address=a),
            lambda a: stop_jobs(address=a),
            print_jobs,
        ):
            with pytest.raises(UserError, match=r"no Ray dashboard at http://127.0.0.1:\d+ .*--address"):
                call(refused)
        with pytest.raises(UserError, match="no Ray dashboard"):
            connect(f"http://127.0.0.1:{httpd.server_port}")
        for address in ("ray://127.0.0.1:10001", "file:///tmp"):
            with pytest.raises(UserError, match="no address for jobs"):
                connect(address)
        monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:1")
        with pytest.raises(UserError, match=refused):
            connect(refused)
    assert "RAY_API_SERVER_ADDRESS" not in os.environ
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.timeout(60)
def test_a_dashboard_that_accepts_and_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(client, "ANSWER_S", 1.0)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(UserError, match="no answer in 1 s"):
            connect(f"127.0.0.1:{deaf.getsockname()[1]}")


def test_the_address_of_a_head_leads_to_its_dashboard():
    assert client._of_head("auto") == "http://127.0.0.1:8265"
    assert client._of_head("10.0.0.1:6379") == "http://10.0.0.1:8265"
    assert client._of_head("ray://10.0.0.1:10001") == "http://10.0.0.1:8265"
    assert client._of_head("https://ray.example.org") == "https://ray.example.org"


def test_importing_it_stays_light():
    heavy = ("ray", "aiohttp", "torch", "requests")
    code = f"import sys, cluster.jobs.submit; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_an_address_is_asked_for_and_never_guessed(monkeypatch):
    for value in (None, "", "local"):
        if value is not None:
            monkeypatch.setenv("RAY_ADDRESS", value)
        with pytest.raises(UserError, match=r"which cluster\? .*--address http://127.0.0.1:8265"):
            submit("phase1")
