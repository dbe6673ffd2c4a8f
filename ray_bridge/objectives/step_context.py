"""The frame of the objective: what a term gets to see, and what it gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ray_bridge.bridges.translator import Translator
from ray_bridge.caching.teacher_states import AnswerStates
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.gpu.transfer import send
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.layout import Batch, assemble, assemble_shared
from ray_bridge.inputs.resample import resample
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.noise import generator, normal, uniform
from ray_bridge.objectives.forward_passes import Passes


@dataclass(frozen=True, kw_only=True)
class Term:
    """A sum over this worker's rows or tokens, and over how many; the loss is their quotient over all workers.

    Kept apart so that the mean is over the global batch: means of means would weigh a token by its worker.

    Attributes:
        total: the sum.
        count: over how many.
        facts: what else is logged, the same on every worker.
    """

    total: Tensor
    count: float
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepKey:
    """Where in training a step is; with an example's id it keys every draw of noise."""

    seed: int
    step: int


class StepContext:
    """What one training step computes once and its terms share. B is this worker's part of the batch."""

    def __init__(
        self,
        spec: JobSpec,
        target: FrozenLM,
        translator: Translator,
        source: SourceBatch,
        step_key: StepKey,
        worker: Worker,
        passes: Passes | None = None,
        teacher_answers: AnswerStates | None = None,
    ) -> None:
        self.spec, self.target, self.translator = spec, target, translator
        self.passes = passes or Passes(translator, target, recorded=False)
        self.source, self.step_key, self.worker = source, step_key, worker
        self.teacher_answers = teacher_answers  # None where the teacher is read in the step
        self.items: Sequence[Encoded] = source.items

    @cached_property
    def dropped(self) -> Tensor | None:
        """(B,) rows that train without condition, or None where none may."""
        if self.spec.condition_dropout == 0:
            return None
        draws = [uniform(("drop", *self._key(item))) < self.spec.condition_dropout for item in self.items]
        return send(torch.tensor(draws), self.target.device)  # (B,)

    @cached_property
    def reading(self) -> tuple[Tensor, ...]:
        """What the translator reads of the batch, for the sampler and the flow alike."""
        return self.passes.reading(self.source)

    @cached_property
    def soft(self) -> Tensor:
        """Z, (B, K, d_t), through the same sampler as in evaluation, with its condition."""
        return self.passes.soft(self.reading, self.noise("sampler"))

    @cached_property
    def student(self) -> Batch:
        """The target's inputs with soft tokens and the supervised answer."""
        soft = self.translator.injection(self.soft)
        return assemble_shared(self.target, [item.row for item in self.items], soft, pad="right")

    @cached_property
    def student_hidden(self) -> Tensor:
        """(B, L, d_t), with gradient into Z."""
        return self.passes.hidden(self.student)

    @cached_property
    def teacher(self) -> Batch:
        """The target's inputs without soft tokens, the same answer appended."""
        rows = [item.text_row for item in self.items]
        if not self.spec.kl_alignment:  # the misaligned KL looks at the header's own positions
            return assemble(self.target, rows, None, pad="right")
        return assemble_shared(self.target, rows, None, pad="right")

    @cached_property
    def teacher_hidden(self) -> Tensor:
        """(B, L', d_t), without gradient."""
        with torch.no_grad():
            return self.passes.hidden(self.teacher)

    @cached_property
    def question_slots(self) -> Tensor:
        """The question's target embeddings at unit RMS, resampled to the K slots, (B, K, d_t)."""
        return self.text_slots([item.question_ids for item in self.items])

    def text_slots(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Target embeddings of token ids, scaled to unit (median) RMS and resampled to the K slots, (B, K, d_t)."""
        with torch.no_grad():
            rows = [self.target.embed(send(torch.tensor(ids), self.target.device)).float() for ids in texts]
        return torch.stack([resample(row / self.target.embedding_rms, self.spec.soft_tokens) for row in rows])

    def noise(self, purpose: str) -> Tensor:
        """(B, K, d_t) standard normal, a function of seed, step and example alone."""
        shape = (self.spec.soft_tokens, self.target.hidden_size)
        return send(normal(shape, [(purpose, *self._key(item)) for item in self.items]), self.target.device)

    def times(self) -> Tensor:
        """(B,) logit-normal times in (0, 1)."""
        draws = [torch.randn((), generator=generator("time", *self._key(item))) for item in self.items]
        return send(torch.stack(draws).sigmoid(), self.target.device)

    def _key(self, item: Encoded) -> tuple[int | str, ...]:
        return (self.step_key.seed, self.step_key.step, item.example.id)


def zero(like: Tensor) -> Term:
    """A term that is absent on this worker: no rows, no gradient."""
    return Term(total=like.new_zeros(()), count=0.0)
