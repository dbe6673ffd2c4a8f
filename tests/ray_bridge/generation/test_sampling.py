"""Tokens are drawn from the softmax at any temperature above 0, however small."""

import pytest
import torch

from ray_bridge.generation.sampling import Sampling, choose


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-38, 1e-308, 5e-324])
def test_the_coldest_sample_is_the_most_likely_token(temperature: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1.0, 25.0, 3.0, 4.0], [-90.0, -80.0, -85.0, -95.0]], dtype=dtype)  # (b, V)
    sampling = Sampling(temperature=temperature, generators=[torch.Generator(), torch.Generator()])
    for uniform in (1e-9, 0.5, 1 - 1e-9):
        drawn = choose(logits, torch.full((2,), uniform, dtype=torch.float64), sampling)  # (b,)
        assert drawn.tolist() == logits.argmax(-1).tolist()
