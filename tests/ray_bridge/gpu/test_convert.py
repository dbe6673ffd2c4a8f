"""Tensors that are converted together, and their gradients."""

import torch

from ray_bridge.gpu.convert import convert_together


def test_values_and_gradients_are_those_of_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 4), (5,), (2, 1))]
    together = convert_together(tensors, torch.bfloat16)
    alone = [tensor.to(torch.bfloat16) for tensor in tensors]
    for a, b in zip(together, alone, strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.equal(a, b)
    gradients = []
    for first, second, _unread in (together, alone):
        loss = (first @ torch.ones(4, 2, dtype=torch.bfloat16)).square().sum() + 3 * second.sum()
        gradients.append(torch.autograd.grad(loss, tensors, allow_unused=True))
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == torch.float32
            assert torch.equal(a, b)
    assert gradients[0][2] is None


def test_nothing_is_converted_to_nothing() -> None:
    assert convert_together([], torch.bfloat16) == ()
