"""The whole objective: the terms that a spec asks for, their weights, and their gradient over all workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from ray_bridge.bridges.dit import DiTBridge
from ray_bridge.bridges.registry import BRIDGES
from ray_bridge.config.spec import JobSpec
from ray_bridge.gpu.transfer import send
from ray_bridge.objectives.answer_kl import answer_kl
from ray_bridge.objectives.answer_nll import answer_nll
from ray_bridge.objectives.contrastive import contrast
from ray_bridge.objectives.flow_matching import flow
from ray_bridge.objectives.prompt_alignment import prompt_alignment
from ray_bridge.objectives.step_context import StepContext, Term


@dataclass(frozen=True, kw_only=True)
class WeightedTerm:
    """A term of the objective with its weight.

    Attributes:
        name: under which it is recorded, as `loss/NAME`.
        weight: its factor in the total.
        compute: computes the term from a step.
        every: steps between two steps that compute it.
    """

    name: str
    weight: float
    compute: Callable[[StepContext], Term]
    every: int = 1

    def due(self, step: int) -> bool:
        """Return whether a step, counted from 0, computes the term."""
        return (step + 1) % self.every == 0


def objective_terms(spec: JobSpec) -> list[WeightedTerm]:
    """Return the terms of every step, in a fixed order, without those of weight 0."""
    flows = issubclass(BRIDGES.load(spec.bridge), DiTBridge) and spec.flow_teacher != "none"
    of_soft = float(spec.injection != "c2c")  # fused caches have no soft tokens that could be like the question's
    terms = [
        WeightedTerm(name="answer_nll", weight=1.0, compute=answer_nll),
        WeightedTerm(name="answer_kl", weight=spec.kl_weight, compute=answer_kl),
        WeightedTerm(name="prompt_alignment", weight=of_soft * spec.prompt_weight, compute=prompt_alignment),
        WeightedTerm(name="flow", weight=spec.flow_weight if flows else 0.0, compute=flow),
        WeightedTerm(name="contrast", weight=of_soft * spec.contrast_weight, compute=contrast),
    ]
    return [term for term in terms if term.weight > 0]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The losses of a step. They stay on the device until they are read, which waits for the step to finish.

    Attributes:
        weighted: the T terms.
        values: (T,), each term's mean over the global batch.
        norms: norm of each weighted term's gradient; empty unless asked for.
        metrics: what the terms record besides their loss, by name.
    """

    weighted: Sequence[WeightedTerm]
    values: Tensor
    norms: Mapping[str, Tensor]
    metrics: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def terms(self) -> dict[str, float]:
        """Each term's mean over the global batch, by name."""
        return {term.name: value for term, value in zip(self.weighted, self.values.tolist(), strict=True)}

    @property
    def total(self) -> float:
        """The weighted sum of the terms."""
        return sum(term.weight * self.terms[term.name] for term in self.weighted)

    @cached_property
    def gradient_norms(self) -> dict[str, float]:
        """Norm of each weighted term's gradient, by name; empty unless asked for."""
        return {name: float(norm) for name, norm in self.norms.items()}


def backward(
    step: StepContext,
    terms: Sequence[WeightedTerm],
    parameters: Sequence[nn.Parameter],
    *,
    term_norms: bool = False,
    scale: float = 1.0,
) -> Losses:
    """Compute the objective and put its gradient, summed over workers, into `parameters.grad`.

    Args:
        step: this worker's rows.
        terms: the weighted terms, in the order in which they are computed.
        parameters: what is trained, the same on every worker.
        term_norms: also measure each term's own gradient norm, at the cost of one more backward pass a term.
        scale: factor on the loss in backward passes, so that half precision does not round small gradients to 0; the
            gradients in `parameters.grad` still have it.

    Returns:
        The losses over the global batch, the same on every worker.
    """
    results = [term.compute(step) for term in terms]
    counts = torch.tensor([result.count for result in results], dtype=torch.float64)  # (T,)
    counts = step.worker.sum(send(counts, step.target.device)).clamp(min=1)  # (T,)
    means = [result.total / count.to(result.total) for result, count in zip(results, counts, strict=True)]
    weighted = [term.weight * mean for term, mean in zip(terms, means, strict=True)]
    norms: dict[str, Tensor] = {}
    if term_norms:
        for term, loss in zip(terms, weighted, strict=True):
            gradient = _flat_gradient(loss * scale, parameters, retain=True)
            norms[term.name] = step.worker.sum(gradient).norm() / scale
    loss = torch.stack([value.float() for value in weighted]).sum() * scale
    gradient = _flat_gradient(loss, parameters, retain=False)  # (P,)
    values = torch.stack([mean.detach().float() for mean in means])  # (T,)
    packed = step.worker.sum(torch.cat([gradient, values]))  # (P + T,), one collective for both
    _unflatten(packed[: len(gradient)], parameters)
    metrics = {name: value for result in results for name, value in result.metrics.items()}
    return Losses(weighted=list(terms), values=packed[len(gradient) :], norms=norms, metrics=metrics)


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
