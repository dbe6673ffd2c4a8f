"""Toggle `decode_aware`: learn from what the target generates by itself, and not from gold answers alone.

Every `eval_every` steps the target samples completions of a few training questions from [Z; prompt]. They give two
terms of the objective, `rloo` and `on_policy_distill` (policy_gradient.py), whose gradients are computed in
micro-batches (gradient_accumulation.py). Off: both terms are absent.
"""

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch

from ray_bridge.config.spec import JobSpec
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.gradient_accumulation import (
    accumulate_gradients,
    scalar_with_gradients,
)
from ray_bridge.objectives.objective import WeightedTerm
from ray_bridge.objectives.policy_gradient import compute_advantages
from ray_bridge.objectives.rollouts import (
    Completion,
    CompletionKey,
    draw_questions,
    sample_completions,
    worker_completions,
)
from ray_bridge.objectives.step_context import StepContext, Term, empty_term
from ray_bridge.tasks.task import Example

MICRO_TOKENS = 4096
"""Most positions, pads included, of one forward pass with gradient; changes memory only."""


def decode_terms(
    spec: JobSpec, pair: ModelPair, train: Sequence[Example], *, batch_size: int, micro_tokens: int = MICRO_TOKENS
) -> list[WeightedTerm]:
    """Return the toggle's terms, without those of weight 0; none if the toggle is off.

    Put them before the terms of every step, so that their peak of memory does not add to what those terms keep for the
    backward pass.

    Args:
        spec: the job.
        pair: the frozen models in training's arithmetic.
        train: the training examples, from which questions are drawn.
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
    """Computes both terms of a step from the same completions; see `decode_terms` for the arguments."""

    def __init__(self, pair: ModelPair, train: Sequence[Example], *, batch_size: int, micro_tokens: int) -> None:
        self.pair, self.train, self.spec = pair, train, pair.spec
        self.batch_size, self.micro_tokens = batch_size, micro_tokens
        self.statistics = DecodingStatistics()
        # Weak, so that a step's graph is freed with the step.
        self._terms_of: WeakKeyDictionary[StepContext, tuple[Term, Term]] = WeakKeyDictionary()

    def rloo(self, step: StepContext) -> Term:
        """Advantage x negative log-likelihood, summed over the tokens of completions in groups of unequal rewards."""
        return self._terms(step)[0]

    def distill(self, step: StepContext) -> Term:
        """Return KL(text-only teacher || student), summed over the tokens of all completions."""
        return self._terms(step)[1]

    def _terms(self, step: StepContext) -> tuple[Term, Term]:
        if step not in self._terms_of:
            self._terms_of[step] = self._compute(step)
        return self._terms_of[step]

    def _compute(self, step: StepContext) -> tuple[Term, Term]:
        questions = draw_questions(self.spec, step.step_key, len(self.train))
        keys = worker_completions(step.worker, len(questions), self.spec.decode_samples)
        completions: list[Completion] = []
        soft: SoftContext | None = None
        if keys:
            soft, completions = self._sample(step, questions, keys)
        advantages, metrics = compute_advantages(step.worker, completions, self.spec.decode_samples)
        if soft is None:
            nothing = replace(empty_term(torch.zeros((), device=self.pair.target.device)), metrics=metrics)
            return nothing, nothing
        values, gradients = accumulate_gradients(
            step.target,
            soft.detach(),
            completions,
            advantages,
            self.spec.decode_temperature,
            self.micro_tokens,
        )
        trained = [soft.tokens, *soft.parameters()]
        reinforced = sum(len(c.tokens) for c in completions if advantages[c.key] is not None)
        counts = (reinforced, sum(len(c.tokens) for c in completions))
        rloo, distill = (
            Term(total=scalar_with_gradients(trained, value, parts), count=count, metrics=metrics)
            for value, parts, count in zip(values, gradients, counts, strict=True)
        )
        return rloo, distill

    def _sample(
        self, step: StepContext, questions: Sequence[int], keys: Sequence[CompletionKey]
    ) -> tuple[SoftContext, list[Completion]]:
        """Return soft tokens of this worker's questions, with gradient, and the completions sampled from them."""
        mine = sorted({key.question for key in keys})
        items = self.pair.encoder([self.train[questions[q]] for q in mine])
        source = self.pair.read_source(items)
        context = StepContext(self.spec, step.target, step.translator, source, step.step_key, step.worker, step.passes)
        soft = step.translator.context(source, context.soft)  # of q questions
        soft_rows = [mine.index(key.question) for key in keys]
        completions = sample_completions(
            self.pair, step.step_key, keys, soft_rows, items, soft, self.batch_size, self.statistics
        )
        return soft, completions
