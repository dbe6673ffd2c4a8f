"""The whole objective as a sum of terms: means over what was counted, weights, gradients, and what is recorded."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ray_bridge.config.presets import tiny
from ray_bridge.objectives.objective import WeightedTerm, backward, objective_terms
from ray_bridge.objectives.step_context import StepContext, Term, empty_term
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import make_frame

A, B = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]])), nn.Parameter(torch.tensor([5.0]))


@pytest.fixture(scope="module")
def step(folders: PairFolders) -> StepContext:
    frame = make_frame(folders)
    return frame.step(frame.items(1))


def term(name: str, weight: float, count: float, total: Callable[[], Tensor], **metrics: float) -> WeightedTerm:
    return WeightedTerm(name=name, weight=weight, compute=lambda _: Term(total=total(), count=count, metrics=metrics))


def test_the_total_is_the_weighted_sum_of_means_and_its_gradient_goes_to_each_parameter(step: StepContext) -> None:
    terms = [
        term("square", 0.5, 4, lambda: A.pow(2).sum(), seen=1.0),
        term("plain", 2.0, 2, lambda: 3 * B.sum() + A[0, 1], other=2.0),
    ]
    losses = backward(step, terms, [A, B])
    assert losses.terms == pytest.approx({"square": 30 / 4, "plain": 17 / 2})
    assert losses.total == pytest.approx(0.5 * 7.5 + 2 * 8.5)
    assert losses.metrics == {"seen": 1.0, "other": 2.0}
    assert losses.gradient_norms == {}
    assert A.grad is not None
    assert B.grad is not None
    expected = 0.5 * 2 * A.detach() / 4 + torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(A.grad, expected)
    torch.testing.assert_close(B.grad, torch.tensor([3.0]))


def test_each_term_s_own_gradient_is_measured_without_the_scale_that_the_whole_gradient_keeps(
    step: StepContext,
) -> None:
    terms = [term("a", 0.5, 1, A.sum), term("b", 2.0, 1, lambda: 3 * B.sum())]
    losses = backward(step, terms, [A, B], term_norms=True, scale=8.0)
    assert losses.gradient_norms == pytest.approx({"a": 0.5 * 2, "b": 6.0})
    assert losses.terms == pytest.approx({"a": 10.0, "b": 15.0}), "without the scale"
    assert A.grad is not None
    assert B.grad is not None
    torch.testing.assert_close(A.grad, torch.full((2, 2), 0.5 * 8))
    torch.testing.assert_close(B.grad, torch.tensor([6.0 * 8]))


def test_a_term_of_nothing_adds_nothing(step: StepContext) -> None:
    nothing = WeightedTerm(name="nothing", weight=1.0, compute=lambda s: empty_term(s.soft))
    losses = backward(step, [nothing, term("a", 1.0, 2, A.sum)], [A, B], term_norms=True)
    assert losses.terms == pytest.approx({"nothing": 0.0, "a": 5.0})
    assert losses.gradient_norms["nothing"] == 0
    assert B.grad is not None
    assert not B.grad.any(), "a parameter that no term reads has a gradient of zeros"
    losses = backward(step, [nothing], [A, B])
    assert losses.total == 0
    assert A.grad is not None
    assert A.grad.shape == A.shape
    assert not A.grad.any()


def test_a_count_below_one_is_no_divisor(step: StepContext) -> None:
    assert backward(step, [term("a", 1.0, 0, A.sum)], [A]).terms == {"a": 10.0}
    assert backward(step, [term("a", 1.0, 1, A.sum)], [A]).terms == {"a": 10.0}
    assert backward(step, [term("a", 1.0, 2.5, A.sum)], [A]).terms == {"a": 4.0}


def names(**changes: object) -> dict[str, float]:
    return {each.name: each.weight for each in objective_terms(tiny(**changes))}


def test_terms_have_the_weights_of_the_spec_in_a_fixed_order() -> None:
    weights = {"kl_weight": 0.2, "prompt_weight_on": 0.3, "flow_weight": 0.4, "contrast_weight": 0.5}
    found = names(**weights)
    assert list(found.items()) == [
        *(("answer_nll", 1.0), ("answer_kl", 0.2), ("prompt_alignment", 0.3), ("flow", 0.4), ("contrast", 0.5))
    ]


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"kl_weight": 0}, "answer_kl"),
        ({"prompt_weight_on": 0}, "prompt_alignment"),
        ({"prompt_alignment": False, "prompt_weight_off": 0}, "prompt_alignment"),
        ({"flow_weight": 0}, "flow"),
        ({"flow_teacher": "none"}, "flow"),
        ({"bridge": "resampler"}, "flow"),
        ({"contrast_weight": 0}, "contrast"),
    ],
)
def test_a_term_of_weight_0_is_left_out(changes: dict[str, object], absent: str) -> None:
    assert set(names()) - set(names(**changes)) == {absent}


def test_fused_caches_have_no_soft_tokens_to_compare() -> None:
    assert list(names(bridge="c2c", injection="c2c", geometry_projection=False)) == ["answer_nll", "answer_kl"]


@pytest.mark.parametrize("bridge", ["dit", "dit_xattn"])
def test_both_diffusion_transformers_have_a_flow(bridge: str) -> None:
    assert "flow" in names(bridge=bridge)


def test_a_term_is_due_every_so_many_steps() -> None:
    every = WeightedTerm(name="x", weight=1.0, compute=lambda s: empty_term(s.soft), every=4)
    assert [step for step in range(13) if every.due(step)] == [3, 7, 11]
    assert WeightedTerm(name="x", weight=1.0, compute=every.compute).due(0)
