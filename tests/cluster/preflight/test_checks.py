"""The single checks: real sockets and folders; `module` is a stub in the environment."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from typing import ClassVar

import pytest

from cluster.launchers.site import load_site
from cluster.preflight import models_and_data, node_probe, shared_storage
from cluster.preflight.check import Check
from cluster.preflight.environment_modules import judge_modules
from cluster.preflight.gpu_runtime import judge_runtime, runtime_facts
from cluster.preflight.settings import PreflightSettings
from cluster.preflight.tracking import check_tracking
from ray_bridge import tiny, tiny_run
from ray_bridge.tasks.gsm8k import GSM8K
from tests.support.no_http import speaks_no_http

MODULES = load_site("hpc").modules
STUB = "() {  if [ \"$*\" = '-t list' ]; then printf 'Currently Loaded Modulefiles:\\n%s\\n' 'gcc/13.1.0'; fi\n}"


# ---------------------------------------------------------------- tracking server, models, data


class Answers(http.server.BaseHTTPRequestHandler):
    """The paths that the probes ask for, with fixed answers."""

    codes: ClassVar[dict[str, int]] = {"/open/model": 200, "/gated/model": 401, "/datasets/openai/gsm8k": 200}

    def do_GET(self):
        self.reply(200 if self.path.endswith("/health") else 404, b"OK" if self.path == "/health" else b"<html>")

    def do_HEAD(self):
        self.reply(self.codes.get(self.path.split("/resolve/")[0], 404), b"")

    def reply(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (None, "pass"),
        ("{server}", "pass"),
        ("{server}/elsewhere", "fail"),
        ("{server}/elsewhere?", "fail"),
        ("http://127.0.0.1:1", "fail"),
        ("sqlite:///{folder}/mlflow.db", "pass"),
        ("{folder}/mlruns", "fail"),
        ("databricks://profile", "fail"),
    ],
)
def test_tracking_servers(server, tmp_path, uri, status):
    uri = uri and uri.format(server=server, folder=tmp_path)
    [check] = check_tracking(PreflightSettings(tracking_uri=uri))
    assert check.status == status, check
    assert bool(check.remedy) == (status != "pass")


@pytest.mark.slow
def test_a_real_mlflow_server_passes(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/m.db", "--artifacts-destination", str(tmp_path / "a")]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        asked = PreflightSettings(tracking_uri=f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 90
        while check_tracking(asked)[0].status != "pass" and time.monotonic() < deadline:
            time.sleep(0.5)
        assert check_tracking(asked)[0].status == "pass"
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def models(name: str) -> Check:
    [check] = models_and_data.judge_models({name: node_probe._model(name, 2)}, "n")
    return check


def test_models_in_folders(tmp_path):
    assert models(str(tmp_path)).status == "fail"
    (tmp_path / "config.json").write_text("{}")
    assert "weights" in models(str(tmp_path)).detail
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert models(str(tmp_path)).status == "pass"
    assert models(str(tmp_path / "absent")).status == "fail"


def test_the_embedded_pair_is_in_the_package():
    assert [models(f"embedded:{name}").status for name in ("source", "target")] == ["pass", "pass"]
    assert models("embedded:other").status == "fail"


def test_models_on_the_hub_and_in_the_cache(server, tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert models("open/model").status == "warn"
    assert "HF_TOKEN" in models("gated/model").remedy
    assert "does not have it" in models("no/model").detail
    data = node_probe._data(None, GSM8K.hub.name, 2)
    assert models_and_data.judge_data(data, PreflightSettings(task="gsm8k"), "n").status == "warn"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert "does not answer" in models("open/model").detail
    with speaks_no_http() as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert "does not speak HTTP" in models("open/model").detail
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in models("open/model").detail
    snapshot = tmp_path / "hub/models--open--model/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert models("open/model").status == "pass"


def test_data_in_a_folder(tmp_path):
    asked = PreflightSettings(task="gsm8k", task_data=str(tmp_path))
    (tmp_path / "train.jsonl").write_text("")
    check = models_and_data.judge_data(node_probe._data(str(tmp_path), None, 2), asked, "n")
    assert (check.status, "test.jsonl" in check.detail) == ("fail", True)
    (tmp_path / "test.jsonl").write_text("")
    assert models_and_data.judge_data(node_probe._data(str(tmp_path), None, 2), asked, "n").status == "pass"


def test_data_in_another_format(tmp_path):
    asked = PreflightSettings(task="gsm8k", task_data=str(tmp_path))
    assert models_and_data.judge_data(node_probe._data(str(tmp_path), None, 2), asked, "n").status == "fail"
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "train-00000-of-00001.parquet").write_text("")
    assert models_and_data.judge_data(node_probe._data(str(tmp_path), None, 2), asked, "n").status == "pass"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"task": "gsm8k"}, GSM8K.hub.name),
        ({"task": "hotpotqa"}, "hotpotqa/hotpot_qa"),
        ({"task": "openbookqa"}, "allenai/openbookqa"),
        ({"task": "gsm8k", "task_data": "/data"}, None),
        ({}, None),
    ],
)
def test_the_hub_name_is_the_tasks_own(changes, name):
    assert PreflightSettings.for_run(tiny(**changes), tiny_run()).dataset == name


# ---------------------------------------------------------------- judgements


@pytest.mark.parametrize(
    ("environment", "status", "detail"),
    [
        ({}, "skip", "no module system"),
        ({"LOADEDMODULES": ":".join(MODULES)}, "pass", "gcc/13.1.0"),
        ({"MODULESHOME": "/opt", "LOADEDMODULES": "gcc/12.2.0"}, "fail", "gcc/13.1.0 is not loaded (gcc/12.2.0 is)"),
        ({"BASH_FUNC_module%%": STUB}, "fail", "conda/24.3.0-0 is not loaded"),
    ],
)
def test_modules_of_this_process(monkeypatch, environment, status, detail):
    for name in ("MODULESHOME", "LMOD_CMD", "MODULEPATH", "LOADEDMODULES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check = judge_modules(MODULES, node_probe.modules_facts(), "n")
    assert check.status == status
    assert detail in check.detail


def test_modules_without_a_version_take_any():
    facts = {"system": True, "loaded": ["gcc/13.1.0"]}
    assert judge_modules(("gcc",), facts, "n").status == "pass"
    assert judge_modules(("gcc/1",), facts, "n").status == "fail"
    assert judge_modules((), facts, "n").status == "skip"


# As read on an H200, but for the build of torch, which is the module stack's here.
GOOD = {"name": "NVIDIA H200", "free": 149557477376, "total": 150109880320, "right": True}
FACTS = {
    "problem": "", "driver": "580.159.04", "torch": "2.11.0+cu126", "cuda": "12.6", "available": True,
    "driver_cuda": 13000, "devices": [GOOD, GOOD],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({}, "pass", "2 x NVIDIA H200"),
        ({"problem": "ImportError: libcudnn.so.9"}, "fail", "libcudnn"),
        ({"cuda": None}, "fail", "built without CUDA"),
        ({"available": False, "driver_cuda": 12040, "cuda": "13.0"}, "fail", "the driver supports CUDA 12.4"),
        ({"available": False}, "fail", "finds no GPU; the driver supports CUDA 13.0"),
        ({"devices": [GOOD]}, "fail", "torch sees 1 GPUs, Ray reserved 2"),
        ({"devices": [GOOD, {**GOOD, "name": "NVIDIA A100"}]}, "fail", "where H200 was asked for"),
        ({"devices": [GOOD, {**GOOD, "free": 90e9}]}, "fail", "GPU 1: 90 of 150 GB free"),
        ({"devices": [GOOD, {**GOOD, "right": False}]}, "fail", "wrong product"),
        ({"devices": [GOOD, {"name": "NVIDIA H200", "problem": "no kernel image"}]}, "fail", "no kernel image"),
        ({"cuda": "13.0"}, "warn", "the module is stockcuda/12.6.2"),
    ],
)
def test_driver_cuda_and_torch(changes, status, message):
    check = judge_runtime({**FACTS, **changes}, gpus=2, kind="H200", modules=MODULES, node="n")
    assert check.status == status
    assert message in check.detail
    assert bool(check.remedy) == (status != "pass")


@pytest.mark.timeout(60)
def test_the_runtime_probe_is_bounded():
    assert "did not answer" in runtime_facts(timeout_s=0.1)["problem"]


@pytest.mark.gpu
def test_the_runtime_probe_agrees_with_a_real_gpu():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    facts = runtime_facts()
    assert len(facts["devices"]) == torch.cuda.device_count()
    assert all(device["right"] for device in facts["devices"])


def test_disk_and_shared_storage(tmp_path):
    facts = {"storage": node_probe._space(str(tmp_path / "not/yet")), "temporary": node_probe._space("/tmp")}
    assert facts["storage"]["on"] == str(tmp_path)
    assert shared_storage.judge_disk(facts, min_free_gb=0.001, node="n").status == "pass"
    assert shared_storage.judge_disk(facts, min_free_gb=1e9, node="n").status == "fail"
    assert node_probe._shared(str(tmp_path / "token"), 0.3) == "no"
    (tmp_path / "token").write_text("other")
    assert (
        shared_storage.judge_shared(node_probe._shared(str(tmp_path / "token"), 1), storage=tmp_path, node="n").status
        == "fail"
    )
