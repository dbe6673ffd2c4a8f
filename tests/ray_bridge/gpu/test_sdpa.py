"""Attention whose gradient cuDNN gets wrong: 64 keys more than a multiple of 128, all scores of a query far below 0."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.bridges.layers import Attention
from ray_bridge.gpu import sdpa
from ray_bridge.models.attention import causal_attention, group_mask, masked_attention
from ray_bridge.models.frozen_lm import FrozenLM

GPU = pytest.mark.gpu


def low_scores(keys: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v, (2, 4, keys, 64), whose scores are all about -120."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, keys, 64, generator=generator) * size for size in (0.1, 0.1, 1.0))
    q[..., 0], k[..., 0] = 1.0, -120 * math.sqrt(64)
    return tuple(x.to(device, dtype).requires_grad_() for x in (q, k, v))  # type: ignore[return-value]


def masks(keys: int, device: str, dtype: torch.dtype) -> list[Tensor | None]:
    allowed = torch.ones(2, 1, 1, keys, dtype=torch.bool, device=device)
    allowed[1, ..., keys // 2 :] = False
    return [None, allowed, torch.zeros(allowed.shape, device=device, dtype=dtype).masked_fill(~allowed, -math.inf)]


def check_gradients(keys: int, device: str, dtype: torch.dtype, tolerance: float) -> None:
    for mask in masks(keys, device, dtype):
        inputs = low_scores(keys, device, dtype)
        wide = [x.detach().double().requires_grad_() for x in inputs]
        grad = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)
        found = torch.autograd.grad(sdpa.attend(*inputs, mask=mask), inputs, grad)
        reference_mask = mask if mask is None or mask.dtype == torch.bool else mask.double()
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            value = F.scaled_dot_product_attention(wide[0], wide[1], wide[2], attn_mask=reference_mask)
        expected = torch.autograd.grad(value, wide, grad.double())
        assert all(gradient.isfinite().all() for gradient in found)
        # The first dimension lowers all scores alike: its gradient in q is 0 times 960, which is rounding.
        for a, b in zip((found[0][..., 1:], *found[1:]), (expected[0][..., 1:], *expected[1:]), strict=True):
            assert float((a.double() - b).norm()) < tolerance * float(b.norm())


@pytest.mark.parametrize("keys", [63, 64, 128, 192])
def test_gradients_are_those_of_the_formula(keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpa, "gradient_fails", lambda _like, keys: keys % 128 == 64)  # as on a GPU, in fp64
    check_gradients(keys, "cpu", torch.float64, 1e-12)


@GPU
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("keys", [64, 128, 192, 704])
def test_gradients_are_finite_and_right_on_a_gpu(keys: int, dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    check_gradients(keys, "cuda", dtype, 0.02)


@GPU
def test_slots_that_attend_to_each_other_have_finite_gradients() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    torch.manual_seed(0)
    attention = Attention(64, 4).cuda()
    with torch.no_grad():  # every query's scores are about -150
        attention.query.bias.fill_(5.0)
        attention.key_value.bias[:64].fill_(-7.5 / math.sqrt(16) * 4)
    x = torch.randn(2, 64, 64, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        y = attention(x)
    [gradient] = torch.autograd.grad(y.float().pow(2).sum(), [x])
    assert gradient.isfinite().all()


@GPU
@pytest.mark.parametrize("keys", [64, 192])
def test_attention_of_frozen_layers_has_finite_gradients(keys: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    q, k, v = low_scores(keys, "cuda", torch.bfloat16)
    causal = causal_attention(q, k, v, 64**-0.5)
    masked = masked_attention(q, k, v, group_mask(keys, keys, 1, None, q, window=16), 64**-0.5)
    for y in (causal, masked):
        for gradient in torch.autograd.grad(y.float().sum(), (q, k, v)):
            assert gradient.isfinite().all()


def test_a_model_that_pads_for_its_gradient_gives_the_same_states(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = FrozenLM.load("embedded:target", dtype="float64")
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [5, 6, 7, 8, 0, 0]])
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    embeds, positions = lm.embed(ids), mask.cumsum(1) - 1
    plain = lm.hidden(embeds, mask, positions)  # (2, 6, d)
    monkeypatch.setattr(sdpa, "gradient_fails", lambda _like, keys: keys == 6)
    lengths: list[int] = []
    run = lm.run_transformers
    monkeypatch.setattr(
        lm, "run_transformers", lambda context, **kw: lengths.append(kw["inputs_embeds"].shape[1]) or run(context, **kw)
    )
    padded = lm.hidden(embeds, mask, positions)  # (2, 6, d)
    assert lengths == [6 + sdpa.PADDING]
    torch.testing.assert_close(padded[mask.bool()], plain[mask.bool()], rtol=1e-12, atol=1e-12)
