"""Toggle `decode_aware`: learn from what the target writes when it is left to itself, not from gold answers alone.

Every `eval_every` steps the target answers a few training questions freely from [Z; prompt]. Two terms come of it:
`rloo` reinforces completions that score better than the question's others (Ahmadian et al. 2024), and
`on_policy_distill` keeps the target with soft tokens close to the target with the text alone, on the tokens that were
written (Agarwal et al. 2024). Both are of the policy that was sampled, at its temperature.

Memory: gradients are taken one micro-batch at a time down to Z and to the adapters in the target, where there are any,
with every layer of the frozen target recomputed in the backward pass. What stays between micro-batches is Z and one
gradient of it all for each term, whatever the number of completions; each term is then handed over as a value whose
gradient is the accumulated one.
"""

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch

from ray_bridge.config.spec import JobSpec
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.objective import WeightedTerm
from ray_bridge.objectives.policy_gradient import accumulate, carry, judge, parameters_of
from ray_bridge.objectives.rollouts import Completion, draw_questions, turns_of, write
from ray_bridge.objectives.step_context import StepContext, Term, zero
from ray_bridge.tasks.task import Example

MICRO_TOKENS = 4096
"""Positions, pads included, of one forward pass with gradient; a longer row goes alone. Changes memory only."""


def decode_terms(
    spec: JobSpec, pair: ModelPair, train: Sequence[Example], *, batch_size: int, micro_tokens: int = MICRO_TOKENS
) -> list[WeightedTerm]:
    """The toggle's terms, none where it is off or their weight is 0.

    They belong before the terms of every step, so that their peak of memory does not stand on top of what those keep
    for the backward pass.

    Args:
        spec: the job.
        pair: the frozen models in training's arithmetic.
        train: examples whose questions are asked.
        batch_size: completions decoded together; changes speed and memory only.
        micro_tokens: see `MICRO_TOKENS`.
    """
    if not spec.decode_aware:
        return []
    decode = DecodeAware(pair, train, batch_size=batch_size, micro_tokens=micro_tokens)
    terms = [
        WeightedTerm(name="rloo", weight=spec.decode_weight, compute=decode.rloo, every=spec.eval_every),
        WeightedTerm(
            name="on_policy_distill", weight=spec.on_policy_distill, compute=decode.distill, every=spec.eval_every
        ),
    ]
    return [term for term in terms if term.weight > 0]


class DecodeAware:
    """Computes both terms of a step from one set of completions; see `decode_terms` for the arguments."""

    def __init__(self, pair: ModelPair, train: Sequence[Example], *, batch_size: int, micro_tokens: int) -> None:
        self.pair, self.train, self.spec = pair, train, pair.spec
        self.batch_size, self.micro_tokens = batch_size, micro_tokens
        self.statistics = DecodingStatistics()
        # Weak, so that a step's graph does not live on until the next step that asks.
        self._done: WeakKeyDictionary[StepContext, tuple[Term, Term]] = WeakKeyDictionary()

    def rloo(self, step: StepContext) -> Term:
        """Advantage x negative log-likelihood, summed over the tokens of completions in groups of unequal rewards."""
        return self._terms(step)[0]

    def distill(self, step: StepContext) -> Term:
        """KL(text-only teacher || student), summed over the tokens of all completions."""
        return self._terms(step)[1]

    def _terms(self, step: StepContext) -> tuple[Term, Term]:
        if step not in self._done:
            self._done[step] = self._compute(step)
        return self._done[step]

    def _compute(self, step: StepContext) -> tuple[Term, Term]:
        chosen = draw_questions(self.spec, step.step_key, len(self.train))
        turns = turns_of(step.worker, len(chosen), self.spec.decode_samples)
        completions: list[Completion] = []
        soft: SoftContext | None = None
        if turns:
            mine = sorted({turn.question for turn in turns})
            items = self.pair.encoder([self.train[chosen[q]] for q in mine])
            source = read_source(self.pair.source, items, self.spec.source_layer)
            asked = StepContext(
                self.spec, step.target, step.translator, source, step.step_key, step.worker, step.passes
            )
            soft = step.translator.injection(asked.soft)  # of q questions
            by_question = dict(zip(mine, range(len(mine)), strict=True))
            places = [by_question[turn.question] for turn in turns]
            completions = write(self.pair, step.step_key, turns, places, items, soft, self.batch_size, self.statistics)
        advantages, facts = judge(step, completions, self.spec.decode_samples)
        if soft is None:
            nothing = replace(zero(torch.zeros((), device=self.pair.target.device)), facts=facts)
            return nothing, nothing
        temperature = self.spec.decode_temperature
        values, gradients = accumulate(
            step.target, soft.detach(), completions, advantages, temperature, self.micro_tokens
        )
        kept = sum(len(c.tokens) for c in completions if advantages[c.turn] is not None)
        counts = (kept, sum(len(c.tokens) for c in completions))
        rloo, distill = (
            Term(total=carry([soft.tokens, *parameters_of(soft.adapters)], value, parts), count=count, facts=facts)
            for value, parts, count in zip(values, gradients, counts, strict=True)
        )
        return rloo, distill
