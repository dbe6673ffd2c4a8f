"""Memory: the parameters of real checkpoints, the memory of this machine, and when a job does not fit."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from cluster.preflight import node_probe
from cluster.preflight.memory import judge_memory
from cluster.preflight.settings import PreflightSettings
from ray_bridge.config.checkpoint_names import EMBEDDED

GB = 10**9
CPU_JOB = PreflightSettings(workers=2, models=("a", "b"), bytes_per_parameter=4)
GPU_JOB = PreflightSettings(workers=4, gpus=4, models=("a", "b"), bytes_per_parameter=2)


def facts(available_gb: float, parameters: float | None, gpus_gb: tuple[float, ...] = ()) -> dict[str, Any]:
    number = None if parameters is None else int(parameters)
    return {
        "memory": {"available": available_gb * GB},
        "gpu_memory": [size * GB for size in gpus_gb],
        "models": {"a": {"parameters": number}, "b": {"parameters": number}},
    }


@pytest.mark.parametrize(
    ("settings", "given", "status", "detail"),
    [
        (CPU_JOB, facts(20, 1e9), "pass", "about 19.1 GB needed by 2 workers"),
        (CPU_JOB, facts(18, 1e9), "warn", "18.0 GB available"),
        (CPU_JOB, facts(15, 1e9), "fail", "15.0 GB available"),
        (CPU_JOB, facts(4, None), "pass", "about 3.1 GB"),
        (GPU_JOB, facts(8, 8e9, (80, 80)), "pass", "8.0 GB available"),
        (GPU_JOB, facts(8, 8e9, (80, 24)), "fail", "both models need 32 GB on each GPU; the smallest has 24 GB"),
        (GPU_JOB, facts(2, 8e9), "warn", "2.0 GB available"),
        (replace(GPU_JOB, shards=4), facts(8, 8e9, (80, 24)), "pass", "8.0 GB available"),
        (replace(GPU_JOB, shards=2), facts(8, 8e9, (80, 20)), "fail", "the source and a part of the target need 24 GB"),
    ],
)
def test_a_job_that_does_not_fit(settings: PreflightSettings, given: dict[str, Any], status: str, detail: str) -> None:
    check = judge_memory(given, settings, "n")
    assert (check.status, detail in check.detail) == (status, True), check
    assert bool(check.remedy) == (status != "pass")


def test_parameters_are_those_of_the_files(tmp_path: Path) -> None:
    count = 0
    for path in EMBEDDED["source"].glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            count += sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118  not a dict
    assert node_probe._parameters(EMBEDDED["source"]) == count > 0
    assert node_probe._parameters(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 9) + json.dumps({"a": 1})[:5].encode())
    assert node_probe._parameters(tmp_path) is None, "cut short"
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert node_probe._parameters(tmp_path) is None, "its header would fill the memory"


def test_the_memory_of_this_machine() -> None:
    assert 0.1 * GB < node_probe.memory_bytes()["available"] < 100_000 * GB
