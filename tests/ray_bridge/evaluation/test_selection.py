"""Which weights are selected: the best on the validation examples, and of equals the later ones."""

import torch

from ray_bridge.evaluation.selection import Best


def test_the_best_weights_are_kept_and_of_equals_the_later_ones() -> None:
    best = Best()
    offers = [(0, 0.0), (10, 0.5), (20, 0.25), (30, 0.5), (40, 0.375)]
    taken = [best.offer(step, accuracy, {"w": torch.tensor([float(step)])}) for step, accuracy in offers]
    assert taken == [True, True, False, True, False]
    assert (best.step, best.accuracy, best.weights["w"].tolist()) == (30, 0.5, [30.0])


def test_an_accuracy_of_0_is_selected_until_there_is_a_better_one() -> None:
    best = Best()
    assert best.offer(0, 0.0, {"w": torch.zeros(1)})
    assert best.offer(10, 0.0, {"w": torch.ones(1)})
    assert (best.step, best.weights["w"].tolist()) == (10, [1.0])


def test_what_is_selected_is_a_copy() -> None:
    weights, best = {"w": torch.zeros(2, requires_grad=True)}, Best()
    best.offer(1, 0.5, weights)
    with torch.no_grad():
        weights["w"].add_(1)
    assert best.weights["w"].tolist() == [0.0, 0.0]
    assert not best.weights["w"].requires_grad
