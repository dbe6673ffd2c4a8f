"""Kernels against their meaning in torch: interpreted on a CPU where Triton is installed, else on a GPU."""

import os
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from ray_bridge.kernels import behind, checks, decode, layer

KINDS = pytest.mark.parametrize("kind", [decode, layer, behind], ids=lambda kind: kind.__name__.rpartition(".")[2])
SCRIPT = """
import torch
from ray_bridge.kernels import {name} as kernels
assert kernels.disagreement(torch.device("cpu"), torch.float32, 8, 2, 32) < 1e-5
assert kernels.disagreement(torch.device("cpu"), torch.float32, 4, 4, 16) < 1e-5
"""


@KINDS
@pytest.mark.skipif(checks.triton is None, reason="Triton is not installed")
def test_interpreted_kernels_agree_with_torch(kind: ModuleType) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    script = SCRIPT.format(name=kind.__name__.rpartition(".")[2])
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=300)


@KINDS
def test_without_a_gpu_the_kernels_are_not_used(kind: ModuleType) -> None:
    if checks.triton is None:
        assert not kind.usable(torch.device("cpu"), torch.bfloat16, 8, 2, 32)
    assert not kind.usable(torch.device("cpu"), torch.bfloat16, 8, 2, 48)  # no power of two


@pytest.mark.parametrize("gap", [0.5, float("nan"), RuntimeError("no such device")], ids=str)
def test_kernels_that_disagree_or_fail_are_not_used(gap: float | Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def disagreement(*_geometry: object) -> float:
        if isinstance(gap, Exception):
            raise gap
        return gap

    geometry = (torch.device("cpu"), torch.bfloat16, 8, 2, 32)
    monkeypatch.setattr(checks, "triton", object())
    with pytest.warns(UserWarning, match="the test kernels"):
        assert not checks.agree("test", disagreement, *geometry)
    assert checks.agree("test", lambda *_: 1e-3, *geometry)


@KINDS
@pytest.mark.gpu
def test_kernels_agree_with_torch_in_bf16(kind: ModuleType) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    device = torch.device("cuda", torch.cuda.current_device())
    for heads, kv_heads, head_dim in ((32, 8, 128), (14, 2, 64), (16, 16, 64)):
        assert kind.disagreement(device, torch.bfloat16, heads, kv_heads, head_dim) < 2e-2
