"""Micro-batches change neither losses nor gradients, and bound the memory."""

from dataclasses import replace

import pytest
import torch

from ray_bridge.objectives.gradient_accumulation import accumulate_gradients, micro_batches, scalar_with_gradients
from ray_bridge.objectives.rollouts import Completion
from tests.support.live_bytes import LiveBytes
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, ParityTask, make_frame
from tests.support.rollouts import LAYOUTS, UNLIMITED, losses_by_hand, rollout

MICRO_TOKENS = (1, 150, UNLIMITED)


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders, ParityTask, max_new_tokens=30, decode_temperature=1.5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_and_gradients_equal_those_by_hand(folders: PairFolders, layout: str) -> None:
    frame = make_frame(folders, ParityTask, max_new_tokens=30, decode_temperature=1.5, **LAYOUTS[layout])
    soft, completions, advantages = rollout(frame)
    leaf = soft.tokens.clone().requires_grad_()
    losses = losses_by_hand(frame, replace(soft, tokens=leaf), completions, advantages)
    expected = [torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in losses]
    for micro_tokens in MICRO_TOKENS:
        values, gradients = accumulate_gradients(frame.pair.target, soft, completions, advantages, 1.5, micro_tokens)
        torch.testing.assert_close(values, torch.stack(losses).detach(), rtol=1e-4, atol=1e-4)
        for (accumulated,), expected_gradients in zip(gradients, expected, strict=True):
            assert float(expected_gradients.norm()) > 0.1
            torch.testing.assert_close(accumulated, expected_gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layout", ["first", "before_question"])
def test_adapters_get_their_part_of_losses_and_gradients(folders: PairFolders, layout: str) -> None:
    changes = {"max_new_tokens": 30, "decode_temperature": 1.5, "injection": "adapter", **LAYOUTS[layout]}
    frame = make_frame(folders, ParityTask, **changes)
    parameters = list(frame.translator.injection.parameters())
    soft, completions, advantages = rollout(frame)
    leaf = soft.tokens.clone().requires_grad_()
    losses = losses_by_hand(frame, replace(soft, tokens=leaf), completions, advantages)
    trained = [leaf, *parameters]
    expected = [torch.autograd.grad(loss, trained, retain_graph=True) for loss in losses]
    for micro_tokens in MICRO_TOKENS:
        values, gradients = accumulate_gradients(frame.pair.target, soft, completions, advantages, 1.5, micro_tokens)
        torch.testing.assert_close(values, torch.stack(losses).detach(), rtol=1e-4, atol=1e-4)
        for accumulated, expected_gradients in zip(gradients, expected, strict=True):
            assert all(float(gradient.norm()) > 1e-3 for gradient in expected_gradients)
            torch.testing.assert_close(accumulated, list(expected_gradients), rtol=1e-3, atol=1e-4)


def test_pads_are_never_read(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, completions, advantages = rollout(frame)
    results = []
    for pad in (frame.pair.target.pad, 17, 101):
        monkeypatch.setattr(frame.pair.target, "pad", pad)
        results.append(accumulate_gradients(frame.pair.target, soft, completions, advantages, 1.0, UNLIMITED))
    for values, gradients in results[1:]:
        assert torch.equal(values, results[0][0])
        assert all(torch.equal(gradient, first) for (gradient,), (first,) in zip(gradients, results[0][1], strict=True))


def test_micro_batches_hold_to_their_limit(frame: Frame) -> None:
    _, completions, _ = rollout(frame)
    K = frame.spec.soft_tokens

    def length(c: Completion) -> int:
        return 1 + K + len(c.item.row.prompt) + len(c.tokens)

    for limit in (1, 150, 400, UNLIMITED):
        parts = list(micro_batches(completions, K, limit))
        assert sorted(id(c) for part in parts for c in part) == sorted(map(id, completions))
        assert all(len(part) == 1 or max(map(length, part)) * len(part) <= limit for part in parts)
    assert len(parts) == 1
    assert len(list(micro_batches(completions, K, 1))) == len(completions)


def test_a_scalar_has_the_given_value_and_gradients() -> None:
    z, weight = torch.randn(2, 3, 4, requires_grad=True), torch.randn(5, requires_grad=True)
    gradients = [torch.randn(2, 3, 4), torch.randn(5)]
    total = scalar_with_gradients([z * 2, weight], torch.tensor(7.5), gradients)
    assert float(total.detach()) == 7.5
    torch.testing.assert_close(torch.autograd.grad(total, [z, weight]), (2 * gradients[0], gradients[1]))


def peak(frame: Frame, questions: int, micro_tokens: int) -> tuple[int, int]:
    """Peak of live tensor bytes while gradients are accumulated, and the bytes of Z."""
    soft, completions, advantages = rollout(frame, questions)
    completions = [replace(c, tokens=tuple(range(5, 25))) for c in completions]
    prompt = completions[0].item
    completions = [replace(c, item=prompt) for c in completions]
    accumulate_gradients(frame.pair.target, soft, completions[:1], advantages, 1.0, micro_tokens)
    with LiveBytes() as live:
        accumulate_gradients(frame.pair.target, soft, completions, advantages, 1.0, micro_tokens)
    return live.peak, soft.tokens.numel() * soft.tokens.element_size()


@pytest.mark.parametrize("injection", ["prepend", pytest.param("adapter", marks=pytest.mark.slow)])
def test_memory_is_bounded_by_the_micro_batch(folders: PairFolders, injection: str) -> None:
    frame = make_frame(folders, ParityTask, soft_tokens=64, injection=injection)
    row = 1 + 64 + len(frame.items(1)[0].row.prompt) + 20
    small, z_small = peak(frame, 2, 2 * row)
    large, z_large = peak(frame, 4, 2 * row)
    assert z_large == 2 * z_small
    assert large - small <= 2 * (z_large - z_small) + 1024  # one gradient of Z for each of the two terms
    double, _ = peak(frame, 4, 4 * row)
    assert double > 1.5 * large
