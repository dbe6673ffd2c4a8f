"""Whitening of source states: its definition, shrinkage, sums over batches and workers, and its way to disk."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from ray_bridge.bridges.conditioner import mean_of
from ray_bridge.bridges.translator import build_translator
from ray_bridge.bridges.whitening import Moments, Whitening
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.tasks.task import Example
from tests.support.model_pairs import frozen
from tests.support.workers import on_two_workers

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


def fitted_to_many(x: Tensor) -> Whitening:
    """Fit to the rows repeated so often that nothing is shrunk."""
    moments = Moments.of(x)
    for tensor in moments.tensors():
        tensor.mul_(1e12)
    whitening = Whitening(x.shape[1]).double()
    whitening.fit(moments)
    return whitening


def test_it_is_the_identity_until_it_is_fitted() -> None:
    x = rows()
    assert torch.equal(Whitening(SIZE).double()(x), x)


@pytest.mark.parametrize("count", [1, 5])
def test_rows_without_any_spread_are_centred_alone(count: int) -> None:
    x = rows(1).expand(count, SIZE)
    whitening = fitted(x)
    assert torch.equal(whitening.whiten, torch.eye(SIZE, dtype=x.dtype))
    torch.testing.assert_close(whitening(x), torch.zeros_like(x), rtol=0, atol=1e-9)


def test_fitted_rows_are_centred_and_white_and_keep_their_directions() -> None:
    x = rows()
    whitening = fitted(x)
    y = whitening(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(SIZE).double(), rtol=0, atol=1e-9)
    shrunk = torch.from_numpy(ledoit_wolf(x.numpy())[0])  # white are rows with the shrunk covariance
    whitened = whitening.whiten @ shrunk @ whitening.whiten
    torch.testing.assert_close(whitened / whitened[0, 0], torch.eye(SIZE).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(y.pow(2).mean(), torch.tensor(1.0).double(), rtol=0, atol=1e-9)
    y = fitted_to_many(x)(x)
    torch.testing.assert_close(y.T.cov(correction=0), torch.eye(SIZE).double(), rtol=0, atol=1e-9)
    # ZCA: of all whitenings the one by a symmetric, positive definite matrix.
    torch.testing.assert_close(whitening.whiten, whitening.whiten.T)
    assert (torch.linalg.eigvalsh(whitening.whiten) > 0).all()
    assert whitening(x.reshape(40, 100, SIZE)).shape == (40, 100, SIZE)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_a_nearly_constant_direction_is_amplified_only_so_far_whatever_the_scale(size: float) -> None:
    """A thousandth of the largest variance is the floor, so that its root bounds how far directions come together."""
    spread = torch.tensor([1.0, 0.5, 1e-6]).double()
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * spread * size
    least, middle, most = torch.linalg.eigvalsh(fitted_to_many(x).whiten).tolist()
    assert most / least == pytest.approx(1e3**0.5)
    assert middle / least == pytest.approx(2, rel=0.05)


def test_moments_add_over_batches_and_workers() -> None:
    x = rows()
    parts = [Moments.of(part) for part in x.split([1, 999, 3000])]
    whole, added = Moments.of(x), parts[0] + parts[1] + parts[2]
    for one, other in zip(added.tensors(), whole.tensors(), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(parts[0].add_(parts[1]).add_(parts[2]).tensors(), added.tensors(), strict=True):
        assert torch.equal(one, other)


def test_moments_of_half_precision_rows_are_summed_in_float64() -> None:
    moments = Moments.of(rows().bfloat16())
    assert {tensor.dtype for tensor in moments.tensors()} == {torch.float64}


@pytest.mark.parametrize(("count", "width"), [(40, 60), (60, 40), (300, 40), (4000, 6)])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_shrinkage_is_ledoit_and_wolfs(count: int, width: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(width)
    scale = torch.arange(1, width + 1, dtype=torch.float64) ** -0.5
    x = torch.randn(count, width, generator=generator, dtype=torch.float64) * scale + offset
    covariance, shrinkage = ledoit_wolf(x.numpy())
    moments = Moments.of(x[:7])
    for part in x[7:].split(17):
        moments.add_(Moments.of(part))
    assert moments.shrinkage() == pytest.approx(shrinkage, rel=1e-6)
    assert 0 < shrinkage < 1
    sample = moments.covariance()
    shrunk = (1 - shrinkage) * sample + shrinkage * sample.trace() / width * torch.eye(width).double()
    torch.testing.assert_close(shrunk, torch.from_numpy(covariance), rtol=1e-8, atol=1e-10)


def test_equal_variances_are_not_shrunk() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    assert Moments.of(corners).shrinkage() == 0.0


@pytest.mark.parametrize(("count", "far"), [(4000, False), (64, True)])
def test_other_rows_come_out_as_large_as_the_fitted_ones(count: int, far: bool) -> None:
    """Variances 1/i, as of a model's states; without shrinkage 64 rows leave most directions without a variance."""
    width = 256
    scale = torch.arange(1, width + 1, dtype=torch.float64) ** -0.5
    draw = torch.Generator().manual_seed(3)
    x, other = (torch.randn(n, width, generator=draw, dtype=torch.float64) * scale for n in (count, 2000))

    def ratio(whitening: Whitening) -> float:
        return float(whitening(other).pow(2).mean().sqrt() / whitening(x).pow(2).mean().sqrt())

    assert ratio(fitted(x)) < 1.1 if not far else ratio(fitted(x)) < 0.5 * ratio(fitted_to_many(x))


def test_two_workers_fit_what_one_does(tmp_path: Path) -> None:
    save_file(fit_share(Worker()), tmp_path / "alone.safetensors")
    on_two_workers(write_fit, tmp_path)
    alone, both = load_file(tmp_path / "alone.safetensors"), load_file(tmp_path / "both.safetensors")
    assert alone.keys() == both.keys()
    for name, value in alone.items():
        torch.testing.assert_close(both[name], value, rtol=1e-6, atol=1e-7)


def fit_share(worker: Worker) -> dict[str, Tensor]:
    """Fit a translator's whitening to this worker's share of some prompts, and return its statistics."""
    spec = tiny(soft_tokens=3, hidden_size=16, depth=1, num_heads=2, sampler_steps=2)
    source, target = frozen("mistral", 48), frozen("llama", 32)
    task = SyntheticTask(train_examples=48, test_examples=1)
    encoder, translator = Encoder(spec, task, "", source, target), build_translator(spec, source, target)
    train = task.train()
    shares = (train[8 * i : 8 * i + 8] for i in worker.share(6))
    metrics = translator.fit_whitening((read_source(source, encoder(share), -1) for share in shares), worker)
    assert metrics["whitening/rows"] == 48
    assert 0 < metrics["whitening/shrinkage"] < 1
    return {name: value for name, value in translator.bridge.state_dict().items() if "conditioner" in name}


def write_fit(worker: Worker, folder: Path) -> None:
    """One of two workers that fit the statistics together."""
    statistics = fit_share(worker)
    if worker.first:
        save_file(statistics, folder / "both.safetensors")


@pytest.mark.real
@pytest.mark.slow
def test_questions_of_a_real_model_that_were_not_fitted(real_model: Path) -> None:
    """A real spectrum, with far fewer questions than a job has: the fewer, the more shrinkage matters."""
    lm = FrozenLM.load(str(real_model))
    task = SyntheticTask(train_examples=64, test_examples=64)
    encoder, norm = Encoder(tiny(), task, "", lm, lm), torch.nn.LayerNorm(lm.hidden_size, elementwise_affine=False)

    def pooled(examples: Sequence[Example]) -> Tensor:
        read = [read_source(lm, encoder(examples[i : i + 32]), 20) for i in range(0, len(examples), 32)]
        return torch.cat([mean_of(norm(batch.states), batch.mask) for batch in read]).double()

    x, others = pooled(task.train()), pooled(task.test())
    shrunk, sample = (float(fit(x)(others).pow(2).mean().sqrt()) for fit in (fitted, fitted_to_many))
    assert shrunk < 0.85 * sample
