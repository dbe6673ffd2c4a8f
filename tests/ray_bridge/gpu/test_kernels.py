"""Kernels against the same computation in PyTorch: interpreted on a CPU if Triton is installed, else on a GPU."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch
from torch import Tensor

from ray_bridge.generation.kv_caches import FusedCache
from ray_bridge.gpu.kernels import adaptive_norm, decode_step, fused_layer, prefix_attention, verify
from ray_bridge.inputs.layout import Batch, assemble
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.fused_decoder import FusedBody
from tests.support.architectures import exact_lm
from tests.support.decoding_rows import adapters_of, rows_of, soft_of
from tests.support.model_pairs import save_checkpoint

EACH = pytest.mark.parametrize(
    "kernels",
    [adaptive_norm, decode_step, fused_layer, prefix_attention],
    ids=lambda kernels: kernels.__name__.rpartition(".")[2],
)
interpreted = pytest.mark.skipif(verify.triton is None, reason="Triton is not installed")
SCRIPT = """
import torch
from ray_bridge.gpu.kernels import {name} as kernels
assert kernels.max_error(torch.device("cpu"), torch.float32, 8, 2, 32) < 1e-5
assert kernels.max_error(torch.device("cpu"), torch.float32, 4, 4, 16) < 1e-5
"""


@EACH
@interpreted
def test_interpreted_kernels_match_torch(kernels: ModuleType) -> None:
    interpret(SCRIPT.format(name=kernels.__name__.rpartition(".")[2]))


def interpret(script: str) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=300)


@interpreted
def test_interpreted_decode_steps_match_torch(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama", width=64)
    interpret(f"from tests.ray_bridge.gpu.test_kernels import compare_steps; compare_steps({str(folder)!r})")


def compare_steps(folder: str) -> None:
    """Steps of the kernels beside those of torch, with adapters that read soft tokens and with ones that do not."""
    lm = FrozenLM.load(folder).fuse()
    rows = [replace(row, injection="adapter") for row in rows_of(lm, 3)]
    results = []
    for soft in (soft_of(lm, 3), soft_of(lm, 3, adapters_of(lm))):
        with torch.no_grad():
            results.append([_states(lm, assemble(lm, rows, soft, pad="right"), kernels) for kernels in (True, False)])
            torch.testing.assert_close(*results[-1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(results[0][0], results[1][0], atol=0.01)


def _states(lm: FrozenLM, batch: Batch, kernels: bool) -> Tensor:
    cache = FusedCache(lm, len(batch.mask), batch.mask.shape[1], 8, None, batch.context)
    cache.kernels = kernels
    cache.fill(slice(len(batch.mask)), batch)
    states, token = [], torch.arange(5, 5 + len(batch.mask))  # (b,)
    for _ in range(3):
        states.append(cache.step(lm.embed(token)[:, None]))  # (b, d)
        token = lm.logits(states[-1]).argmax(-1)
    return torch.stack(states)  # (3, b, d)


@interpreted
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_interpreted_layers_match_torch(family: str) -> None:
    interpret(f"from tests.ray_bridge.gpu.test_kernels import compare_layers; compare_layers({family!r})")


def compare_layers(family: str) -> None:
    """States and gradients of whole layers, whose norms, rotation and gate are kernels, beside those of torch."""
    lm = exact_lm(family)
    lm.model.float()
    lm.fuse()
    x = 0.3 * torch.randn(2, 9, lm.hidden_size, generator=torch.Generator().manual_seed(0))
    mask, results = torch.ones(2, 9, dtype=torch.long), []
    for kernels in (True, False):
        with mock.patch.object(FusedBody, "uses_kernels", lambda *_, kernels=kernels: kernels):
            z = x.clone().requires_grad_()
            states = lm.hidden(z, mask, mask.cumsum(-1) - 1, right_padded=True)
            (gradient,) = torch.autograd.grad((states * torch.arange(lm.hidden_size)).sum(), z)
            results.append([states.detach(), gradient])
    for a, b in zip(*results, strict=True):
        assert not torch.equal(a, b)
        assert (a - b).norm() < 1e-5 * b.norm()


@EACH
def test_without_a_gpu_the_kernels_are_not_used(kernels: ModuleType) -> None:
    if verify.triton is None:
        assert not kernels.usable(torch.device("cpu"), torch.bfloat16, 8, 2, 32)
    assert not kernels.usable(torch.device("cpu"), torch.bfloat16, 8, 2, 48)  # no power of two


@pytest.mark.parametrize("error", [0.5, float("nan"), RuntimeError("no such device")], ids=str)
def test_kernels_that_differ_or_fail_are_not_used(error: float | Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def max_error(*_geometry: object) -> float:
        if isinstance(error, Exception):
            raise error
        return error

    geometry = (torch.device("cpu"), torch.bfloat16, 8, 2, 32)
    monkeypatch.setattr(verify, "triton", object())
    with pytest.warns(UserWarning, match="the test kernels"):
        assert not verify.kernels_match("test", max_error, *geometry)
    assert verify.kernels_match("test", lambda *_: 1e-3, *geometry)


@EACH
@pytest.mark.gpu
def test_kernels_match_torch_in_bf16(kernels: ModuleType) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    device = torch.device("cuda", torch.cuda.current_device())
    for heads, kv_heads, head_dim in ((32, 8, 128), (14, 2, 64), (16, 16, 64)):
        assert kernels.max_error(device, torch.bfloat16, heads, kv_heads, head_dim) < 2e-2
