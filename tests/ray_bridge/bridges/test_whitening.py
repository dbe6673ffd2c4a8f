"""Whitening of source states: its definition, sums over batches, nearly constant directions, and its way to disk."""

import pytest
import torch
from torch import Tensor

from ray_bridge.bridges.whitening import Moments, Whitening

SIZE = 6


def rows(count: int = 4000, seed: int = 0) -> Tensor:
    """Return correlated rows around a large common part, (count, SIZE)."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, SIZE, generator=generator, dtype=torch.float64)
    return noise @ mix + 50 * torch.arange(1, SIZE + 1)


def fitted(x: Tensor) -> Whitening:
    whitening = Whitening(x.shape[1]).double()
    whitening.fit(Moments.of(x))
    return whitening


def test_it_is_the_identity_until_it_is_fitted() -> None:
    x = rows()
    assert torch.equal(Whitening(SIZE).double()(x), x)


def test_fitted_rows_are_centred_and_white_and_keep_their_directions() -> None:
    x = rows()
    whitening = fitted(x)
    y = whitening(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(SIZE).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(y.T.cov(correction=0), torch.eye(SIZE).double(), rtol=0, atol=1e-9)
    # ZCA: of all whitenings the one by a symmetric, positive definite matrix.
    torch.testing.assert_close(whitening.whiten, whitening.whiten.T)
    assert (torch.linalg.eigvalsh(whitening.whiten) > 0).all()
    assert whitening(x.reshape(40, 100, SIZE)).shape == (40, 100, SIZE)


def test_moments_add_over_batches_and_workers() -> None:
    x = rows()
    parts = [Moments.of(part) for part in x.split([1, 999, 3000])]
    whole, added = Moments.of(x), parts[0] + parts[1] + parts[2]
    for name in ("count", "total", "square"):
        torch.testing.assert_close(getattr(added, name), getattr(whole, name))


def test_moments_of_half_precision_rows_are_summed_in_float64() -> None:
    moments = Moments.of(rows().bfloat16())
    assert moments.total.dtype == moments.square.dtype == torch.float64


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_nearly_constant_direction_is_amplified_only_so_far_whatever_the_scale(scale: float) -> None:
    """The floor is a share of the largest variance: 1e-3, an amplification of at most 31.6 times the largest one's."""
    spread = torch.tensor([1.0, 0.1, 1e-6], dtype=torch.float64)
    noise = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = (noise - noise.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(noise.T.cov(correction=0))).T
    deviations = fitted(scale * noise * spread)(scale * noise * spread).std(0, correction=0)
    expected = torch.tensor([1.0, 1.0, 1e-6 / 1e-3**0.5], dtype=torch.float64)
    torch.testing.assert_close(deviations, expected, rtol=1e-3, atol=1e-9)


def test_the_statistics_travel_with_the_weights() -> None:
    x = rows()
    whitening, again = fitted(x), Whitening(SIZE).double()
    again.load_state_dict(whitening.state_dict())
    assert torch.equal(again(x), whitening(x))
    assert not list(whitening.parameters()), "nothing of it is trained"
