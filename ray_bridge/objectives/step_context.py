"""What a term of the objective is computed from, `StepContext`, and what it returns, `Term`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.caching.teacher_states import AnswerStates
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.gpu.transfer import send
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.layout import Batch, assemble, assemble_after_prefix
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.inputs.text_slots import text_slots
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.noise import generator, normal, uniform
from ray_bridge.objectives.forward_passes import ForwardPasses


@dataclass(frozen=True, kw_only=True)
class Term:
    """A sum over this worker's rows or tokens, and their number.

    The loss is the sum over all workers divided by the number over all workers. A mean of the workers' means would give
    a token more weight on a worker with fewer tokens.

    Attributes:
        total: the sum, with gradient.
        count: the number of rows or tokens.
        metrics: what else is recorded, by name; the same on every worker.
    """

    total: Tensor
    count: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepKey:
    """Identifies a training step; together with an example's id it seeds every draw of noise."""

    seed: int
    step: int


class StepContext:
    """The quantities of one training step, each computed once, when a term first needs it.

    B is this worker's part of the batch, L and L' the longest rows of student and teacher.

    Args:
        spec: the job.
        target: the frozen target.
        translator: what is trained.
        source: the source's states of the B examples.
        step_key: seeds the noise.
        worker: this process among its peers.
        passes: how forward passes run; eagerly by default.
        teacher_answers: the teacher's states of the answers, or None to run the teacher in this step.
        with_flow: whether the flow's error will be asked for, too: then a GPU evaluates it beside the soft tokens.
    """

    def __init__(
        self,
        spec: JobSpec,
        target: FrozenLM,
        translator: TranslatorModule,
        source: SourceBatch,
        step_key: StepKey,
        worker: Worker,
        passes: ForwardPasses | None = None,
        teacher_answers: AnswerStates | None = None,
        *,
        with_flow: bool = False,
    ) -> None:
        self.spec, self.target, self.translator = spec, target, translator
        self.passes = passes or ForwardPasses(translator, target, graphed=False)
        self.source, self.step_key, self.worker = source, step_key, worker
        self.teacher_answers = teacher_answers
        self._flow_with_soft = with_flow and self.passes.graphed
        self.items: Sequence[Encoded] = source.items

    @cached_property
    def dropped(self) -> Tensor | None:
        """(B,) bool, rows whose flow loss is computed without condition; None if condition_dropout is 0."""
        if self.spec.condition_dropout == 0:
            return None
        draws = [uniform(("drop", *self._key(item))) < self.spec.condition_dropout for item in self.items]
        return send(torch.tensor(draws), self.target.device)  # (B,)

    @cached_property
    def bridge_inputs(self) -> tuple[Tensor, ...]:
        """What the translator reads of the batch, for sampler and flow loss: see `TranslatorModule.bridge_inputs`."""
        return self.passes.bridge_inputs(self.source)

    @cached_property
    def soft(self) -> Tensor:
        """Z, (B, K, d_t), from the same sampler as in evaluation, with its condition."""
        return self._soft_and_flow_error[0] if self._flow_with_soft else self.passes.soft(*self._sampling)

    @cached_property
    def flow_error(self) -> Tensor:
        """The flow loss of each row, (B,), towards `flow_teacher`'s text; the bridge has to be a flow."""
        if self._flow_with_soft:
            return self._soft_and_flow_error[1]
        return self.translator.flow_error(*self._flow, *self.bridge_inputs)

    @cached_property
    def _soft_and_flow_error(self) -> tuple[Tensor, Tensor]:
        data, noise, times, dropped = self._flow
        return self.passes.soft_and_flow_error(*self._sampling, data, noise, times, dropped)

    @property
    def _sampling(self) -> tuple[tuple[Tensor, ...], Tensor]:
        return self.bridge_inputs, self.noise("sampler")

    @property
    def _flow(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Data (B, K, d_t) and noise (B, K, d_t) of the flow, its times (B,), and the rows without condition."""
        if self.spec.flow_teacher == "question":
            data = self.question_slots
        else:
            data = self.text_slots([item.text_row.answer for item in self.items])
        return data, self.noise("flow"), self.times(), self.dropped

    @cached_property
    def student(self) -> Batch:
        """Inputs of the target with soft tokens and the gold answer."""
        soft = self.translator.context(self.source, self.soft)
        return assemble_after_prefix(self.target, [item.row for item in self.items], soft, pad="right")

    @cached_property
    def student_hidden(self) -> Tensor:
        """Last hidden states of the student, (B, L, d_t), with gradient into Z."""
        return self.passes.hidden(self.student)

    @cached_property
    def student_answers(self) -> Tensor:
        """The same before each answer token, (N, d_t), in a pass of their own if that computes fewer positions."""
        # The misaligned KL reads other positions too.
        if self.spec.kl_alignment and self.passes.reads_answers_alone(self.student):
            return self.passes.answer_states(self.student)
        answers = self.student.answers
        return self.student_hidden[answers.rows, answers.at]

    @cached_property
    def teacher(self) -> Batch:
        """Inputs of the target without soft tokens, with the same answer."""
        rows = [item.text_row for item in self.items]
        if not self.spec.kl_alignment:  # the misaligned KL compares positions in the few-shot header
            return assemble(self.target, rows, None, pad="right")
        return assemble_after_prefix(self.target, rows, None, pad="right")

    @cached_property
    def teacher_hidden(self) -> Tensor:
        """Last hidden states of the teacher, (B, L', d_t), without gradient."""
        with torch.no_grad():
            return self.passes.hidden(self.teacher)

    @cached_property
    def question_slots(self) -> Tensor:
        """Target embeddings of the question at unit RMS, resampled to K positions, (B, K, d_t)."""
        return self.text_slots([item.question_ids for item in self.items])

    def text_slots(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Embed token ids with the target, scale to unit (median) RMS and resample to K positions, (B, K, d_t)."""
        return text_slots(self.target, texts, self.spec.soft_tokens)

    def noise(self, purpose: str) -> Tensor:
        """Draw standard normal noise, (B, K, d_t), as a function of purpose, seed, step and example alone."""
        shape = (self.spec.soft_tokens, self.target.hidden_size)
        return send(normal(shape, [(purpose, *self._key(item)) for item in self.items]), self.target.device)

    def times(self) -> Tensor:
        """Draw logit-normal times in (0, 1), (B,) (Esser et al. 2024)."""
        draws = [torch.randn((), generator=generator("time", *self._key(item))) for item in self.items]
        return send(torch.stack(draws).sigmoid(), self.target.device)

    def _key(self, item: Encoded) -> tuple[int | str, ...]:
        return (self.step_key.seed, self.step_key.step, item.example.id)


def empty_term(like: Tensor) -> Term:
    """Return a term without rows and without gradient, on the device of `like`, a tensor of any shape."""
    return Term(total=like.new_zeros(()), count=0.0)
