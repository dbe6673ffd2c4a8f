"""The total: which terms a spec asks for, their weights, and their gradient over all workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ray_bridge.objectives.answer_kl import answer_kl
from ray_bridge.objectives.answer_nll import answer_nll
from ray_bridge.objectives.contrast import contrast
from ray_bridge.objectives.flow import flow
from ray_bridge.objectives.prompt_alignment import prompt_alignment
from ray_bridge.objectives.terms import StepContext, Term
from ray_bridge.spec import JobSpec


@dataclass(frozen=True, kw_only=True)
class WeightedTerm:
    """A term of the objective, its weight, and every how many steps it is computed."""

    name: str
    weight: float
    compute: Callable[[StepContext], Term]
    every: int = 1

    def due(self, step: int) -> bool:
        """Whether the term belongs to a step, counted from 0."""
        return (step + 1) % self.every == 0


def objective_terms(spec: JobSpec) -> list[WeightedTerm]:
    """The terms of every step, in a fixed order, without those of weight 0."""
    flows = spec.bridge in ("dit", "dit_xattn") and spec.flow_teacher != "none"
    terms = [
        WeightedTerm(name="answer_nll", weight=1.0, compute=answer_nll),
        WeightedTerm(name="answer_kl", weight=spec.kl_weight, compute=answer_kl),
        WeightedTerm(name="prompt_alignment", weight=spec.prompt_weight, compute=prompt_alignment),
        WeightedTerm(name="flow", weight=spec.flow_weight if flows else 0.0, compute=flow),
        WeightedTerm(name="contrast", weight=spec.contrast_weight, compute=contrast),
    ]
    return [term for term in terms if term.weight > 0]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Global means of the terms, their weighted total, and where asked for each weighted term's gradient norm.

    `facts` is what the terms report besides their loss.
    """

    total: float
    terms: Mapping[str, float]
    gradient_norms: Mapping[str, float]
    facts: Mapping[str, float] = field(default_factory=dict)


def backward(
    step: StepContext,
    terms: Sequence[WeightedTerm],
    parameters: Sequence[nn.Parameter],
    *,
    term_norms: bool = False,
) -> Losses:
    """Compute the objective and leave its gradient, summed over workers, in the parameters.

    Args:
        step: this worker's rows.
        terms: the weighted terms.
        parameters: what is trained, the same on every worker.
        term_norms: also measure each term's own gradient norm (as many backward passes as there are terms).

    Returns:
        The losses over the global batch, the same on every worker.
    """
    results = [term.compute(step) for term in terms]
    counts = torch.tensor([result.count for result in results], dtype=torch.float64, device=step.target.device)  # (T,)
    counts = step.worker.sum(counts).clamp(min=1)  # (T,)
    means = [result.total / count for result, count in zip(results, counts.tolist(), strict=True)]
    weighted = [term.weight * mean for term, mean in zip(terms, means, strict=True)]
    norms: dict[str, float] = {}
    if term_norms:
        for term, loss in zip(terms, weighted, strict=True):
            gradient = _flat_gradient(loss, parameters, retain=True)
            norms[term.name] = float(step.worker.sum(gradient).norm())
    loss = torch.stack([value.float() for value in weighted]).sum()
    gradient = _flat_gradient(loss, parameters, retain=False)  # (P,)
    values = torch.stack([mean.detach().float() for mean in means])  # (T,)
    packed = step.worker.sum(torch.cat([gradient, values]))  # (P + T,), one collective for both
    _unflatten(packed[: len(gradient)], parameters)
    logged = packed[len(gradient) :].tolist()
    total = sum(term.weight * value for term, value in zip(terms, logged, strict=True))
    return Losses(
        total=total,
        terms={term.name: value for term, value in zip(terms, logged, strict=True)},
        gradient_norms=norms,
        facts={name: value for result in results for name, value in result.facts.items()},
    )


def _flat_gradient(loss: Tensor, parameters: Sequence[nn.Parameter], *, retain: bool) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros(sum(p.numel() for p in parameters), device=loss.device)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=retain, allow_unused=True)
    flat = [
        torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, gradients, strict=True)
    ]
    return torch.cat(flat)  # (P,)


def _unflatten(flat: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    start = 0
    for parameter in parameters:
        parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
