"""Which examples a step takes and at which learning rate, by the definition."""

import subprocess
import sys
from itertools import pairwise

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny
from ray_bridge.training.schedule import batch_indices, learning_rate

SPEC = tiny(batch_size=4, steps=20, warmup_steps=5, learning_rate=1e-3)


def epoch(number: int, available: int = 12, seed: int = 0) -> list[int]:
    """Return the examples of one epoch in order."""
    spec, batches = SPEC.replace(seed=seed), available // SPEC.batch_size
    first = number * batches
    return [index for step in range(first, first + batches) for index in batch_indices(spec, step, available)]


def test_every_epoch_takes_every_example_once() -> None:
    for number in range(4):
        assert sorted(epoch(number)) == list(range(12))


def test_epochs_and_seeds_differ_in_their_order_and_nothing_else_does() -> None:
    orders = [epoch(number, seed=seed) for seed in range(3) for number in range(4)]
    assert len({tuple(order) for order in orders}) == len(orders)
    assert orders == [epoch(number, seed=seed) for seed in range(3) for number in range(4)]
    assert list(range(12)) not in orders


def test_examples_that_do_not_fill_a_batch_are_left_out_in_another_choice_each_epoch() -> None:
    left_out = []
    for number in range(8):
        order = epoch(number, available=14)
        assert len(order) == len(set(order)) == 12
        left_out.append(frozenset(range(14)) - set(order))
    assert len(set(left_out)) > 1


def test_the_order_is_the_same_in_another_process() -> None:
    code = (
        "from ray_bridge.config.presets import tiny\nfrom ray_bridge.training.schedule import batch_indices\n"
        "spec = tiny(batch_size=4, seed=3)\nprint([batch_indices(spec, step, 12) for step in range(6)])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str([batch_indices(SPEC.replace(seed=3), step, 12) for step in range(6)])


def test_fewer_examples_than_a_batch_are_refused() -> None:
    assert sorted(batch_indices(SPEC, 0, 4)) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="batch_size 4 is more than the 3 training examples"):
        batch_indices(SPEC, 0, 3)


def test_the_learning_rate_rises_linearly_and_falls_as_half_a_cosine() -> None:
    rates = [learning_rate(SPEC, step) for step in range(20)]
    assert rates[:6] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1e-3])
    assert all(later < earlier for earlier, later in pairwise(rates[5:]))
    # Of the 15 steps that follow the warm-up, 5 are a third: cos(60 degrees) is 1/2; 10 are two thirds.
    assert rates[10] == pytest.approx(0.75e-3)
    assert rates[15] == pytest.approx(0.25e-3)
    assert rates[-1] > 0, "the last step still trains"
    assert learning_rate(SPEC, 20) == pytest.approx(0)
    assert learning_rate(SPEC.replace(warmup_steps=0), 0) == pytest.approx(1e-3)


def test_a_warm_up_of_all_steps_but_one_falls_to_zero_after_it() -> None:
    spec = SPEC.replace(steps=6)
    assert learning_rate(spec, 5) == pytest.approx(1e-3)
    assert learning_rate(spec, 6) == pytest.approx(0)
    assert learning_rate(SPEC.replace(steps=5), 5) == pytest.approx(1e-3), "a warm-up of all steps divides by nothing"
