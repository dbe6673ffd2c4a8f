"""The peak of memory in a row of results is that row's own."""

import pytest
import torch

from benchmarks.decoding import step_time
from benchmarks.harness import peak_gib, reset_peak
from benchmarks.random_models import rows_of
from ray_bridge.models.frozen_lm import FrozenLM


@pytest.mark.gpu
def test_a_small_row_after_a_large_one_has_a_small_peak() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    lm = FrozenLM.load("embedded:target", dtype="float32", device=torch.device("cuda", 0))
    large = torch.empty(1 << 30, dtype=torch.uint8, device=lm.device)
    del large
    row = step_time(
        lm, rows_of(lm, 2, 40), "eager", {"copy_bytes_per_s": 1e12, "matmul_flop_per_s": 1e12}, few=2, many=4
    )
    assert 0 < row["peak_gib"] < 1


def test_a_cpu_has_no_peak() -> None:
    reset_peak(torch.device("cpu"))
    assert peak_gib(torch.device("cpu")) is None
