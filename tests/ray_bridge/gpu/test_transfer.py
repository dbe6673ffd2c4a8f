"""Tensors arrive on the device as they were filled, whatever shapes and dtypes share a copy."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ray_bridge.gpu.transfer import PackedTransfer, fetch, send

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
]


@pytest.mark.parametrize("name", DEVICES)
def test_packed_tensors_arrive_as_they_were_filled(name: str) -> None:
    device = torch.device(name)
    layouts = [((3, 5), torch.bfloat16), ((7,), torch.long), ((0, 4), torch.float32), ((2, 3), torch.float64)]
    values = [torch.arange(shape.numel()).view(shape).to(dtype) + 1 for shape, dtype in map(_sized, layouts)]
    transfer = PackedTransfer(device, *layouts)
    for place, value in zip(transfer.host, values, strict=True):
        place.copy_(value)
    arrived = transfer.send()
    assert len({x.untyped_storage().data_ptr() for x in arrived}) == 1
    for tensor, value in zip(arrived, values, strict=True):
        assert tensor.device.type == device.type
        assert tensor.dtype == value.dtype
        assert torch.equal(tensor.cpu(), value)


def _sized(layout: tuple[tuple[int, ...], torch.dtype]) -> tuple[torch.Size, torch.dtype]:
    return torch.Size(layout[0]), layout[1]


@pytest.mark.parametrize("name", DEVICES)
def test_a_single_tensor_arrives(name: str) -> None:
    value = torch.randn(4, 3)
    assert torch.equal(send(value, torch.device(name)).cpu(), value)


@pytest.mark.parametrize("name", DEVICES)
def test_what_is_fetched_does_not_change_with_what_the_device_does_next(name: str) -> None:
    value = torch.arange(1 << 20, dtype=torch.bfloat16)
    tensor = value.to(name)
    with ThreadPoolExecutor(1) as thread:
        arrived = thread.submit(fetch(tensor))
        if name == "cuda":
            tensor += 1  # comes after the copy in the stream
        assert torch.equal(arrived.result(), value)
