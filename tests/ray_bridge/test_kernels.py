"""The decode kernels against their meaning in torch: interpreted on a CPU where Triton is installed, else on a GPU."""

import os
import subprocess
import sys

import pytest
import torch

from ray_bridge import kernels

SCRIPT = """
import torch
from ray_bridge import kernels
assert kernels.disagreement(torch.device("cpu"), torch.float32, 8, 2, 32) < 1e-5
assert kernels.disagreement(torch.device("cpu"), torch.float32, 4, 4, 16) < 1e-5
"""


@pytest.mark.skipif(kernels.triton is None, reason="Triton is not installed")
def test_interpreted_kernels_agree_with_torch() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=300)


def test_without_a_gpu_the_kernels_are_not_used() -> None:
    if kernels.triton is None:
        assert not kernels.usable(torch.device("cpu"), torch.bfloat16, 8, 2, 32)
    assert not kernels.usable(torch.device("cpu"), torch.bfloat16, 8, 2, 48)  # no power of two


@pytest.mark.gpu
def test_kernels_agree_with_torch_in_bf16() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    device = torch.device("cuda", torch.cuda.current_device())
    for heads, kv_heads, head_dim in ((32, 8, 128), (14, 2, 64), (16, 16, 64)):
        assert kernels.disagreement(device, torch.bfloat16, heads, kv_heads, head_dim) < 2e-2
