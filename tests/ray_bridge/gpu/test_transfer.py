"""What is sent arrives as it was filled, whatever shapes and dtypes travel together."""

import pytest
import torch

from ray_bridge.gpu.transfer import Parcel, send

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
]


@pytest.mark.parametrize("name", DEVICES)
def test_a_parcel_arrives_as_it_was_filled(name: str) -> None:
    device = torch.device(name)
    kinds = [((3, 5), torch.bfloat16), ((7,), torch.long), ((0, 4), torch.float32), ((2, 3), torch.float64)]
    values = [torch.arange(shape.numel()).view(shape).to(dtype) + 1 for shape, dtype in map(_sized, kinds)]
    parcel = Parcel(device, *kinds)
    for place, value in zip(parcel.host, values, strict=True):
        place.copy_(value)
    arrived = parcel.send()
    assert len({x.untyped_storage().data_ptr() for x in arrived}) == 1
    for found, value in zip(arrived, values, strict=True):
        assert found.device.type == device.type
        assert found.dtype == value.dtype
        assert torch.equal(found.cpu(), value)


def _sized(kind: tuple[tuple[int, ...], torch.dtype]) -> tuple[torch.Size, torch.dtype]:
    return torch.Size(kind[0]), kind[1]


@pytest.mark.parametrize("name", DEVICES)
def test_a_single_tensor_arrives(name: str) -> None:
    value = torch.randn(4, 3)
    assert torch.equal(send(value, torch.device(name)).cpu(), value)
