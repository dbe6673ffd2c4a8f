"""Examples as both models read them: token ids, and the span of the question in the source's prompt."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.prompts import PromptReader, ReadPrompt, align_questions, turns_of
from ray_bridge.inputs.rows import Row
from ray_bridge.inputs.tokenised import TokenisedText, tokenise
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_alignment import TokenAlignment
from ray_bridge.tasks.task import Example, Task, summary_prompt, with_written_answer

KEPT_TOKENS = 1 << 25
"""Tokens of encoded examples that a worker remembers, about 1 GB of host memory."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One example, tokenised for both models.

    Attributes:
        example: the example.
        source_ids: the prompt for the source, BOS first.
        question_span: first and one past the last source token of the question.
        row: the target's row under the spec's layout, answer included.
        text_row: the target's row without soft tokens: target alone, and the KL teacher.
        prompted_row: the row with the prompt, for the prompt curriculum under soft_only, else None.
        question_ids: the question's target tokens alone.
        source_header: how many of the first source tokens, BOS included, are the few-shot header's.
        alignment: how the question's source tokens are pooled onto the target's; None if nothing
            asks for it.
    """

    example: Example
    source_ids: tuple[int, ...]
    question_span: tuple[int, int]
    row: Row
    text_row: Row
    question_ids: tuple[int, ...]
    source_header: int = 0
    alignment: TokenAlignment | None = None
    prompted_row: Row | None = None

    @property
    def tokens(self) -> int:
        """Tokens of both models' sequences: what remembering the example costs."""
        row = self.row
        return len(self.source_ids) + len(row.before) + len(row.prompt) + len(row.answer)


class Encoder:
    """Tokenises examples for a pair of models under a spec's layout; recently used examples once."""

    def __init__(
        self,
        spec: JobSpec,
        task: Task,
        header: str,
        source: FrozenLM,
        target: FrozenLM,
        *,
        written_header: str | None = None,
        exemplars: Sequence[Example] = (),
    ) -> None:
        """Initialise the encoder.

        Args:
            spec: the layout.
            task: prompts and answers.
            header: few-shot part of every prompt.
            source: the model that reads.
            target: the model that answers.
            written_header: few-shot part of the prompts of `text_bridge`; as `header` if None.
            exemplars: the few-shot examples, which models that read conversations are shown as turns.
        """
        self.spec, self.task, self.header = spec, task, header
        self.written_header = header if written_header is None else written_header
        self.exemplars = exemplars
        self.source, self.target = source, target
        turns = turns_of(task, exemplars)
        written_turns = turns_of(task, [with_written_answer(e, e.answer) for e in exemplars])
        self._for_source = PromptReader(source, header, turns)
        self._for_target = PromptReader(target, header, turns)
        self._for_instruction = PromptReader(target, "")
        self._for_summary = PromptReader(source, "")
        self._for_written = PromptReader(target, self.written_header, written_turns)
        # Not functools.cache on a method: it would hold the encoder, and with it both models, until the garbage
        # collector runs, which GPU memory does not wait for.
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._tokens = 0

    def for_models(self, source: FrozenLM, target: FrozenLM) -> "Encoder":
        """Return an encoder that does the same for other models."""
        return Encoder(
            self.spec,
            self.task,
            self.header,
            source,
            target,
            written_header=self.written_header,
            exemplars=self.exemplars,
        )

    def __call__(self, examples: Sequence[Example]) -> list[Encoded]:
        """Return the examples as both models read them; the last ones are remembered by their id."""
        known = [self._recall(example) for example in examples]
        unknown = [example for example, one in zip(examples, known, strict=True) if one is None]
        fresh = self._encode(unknown) if unknown else []
        self.remember(fresh)
        rest = iter(fresh)
        return [next(rest) if one is None else one for one in known]

    def _recall(self, example: Example) -> Encoded | None:
        known = self._kept.get(example.id)
        if known is None or known.example != example:
            return None
        self._kept.move_to_end(example.id)
        return known

    def remember(self, items: Sequence[Encoded]) -> None:
        """Remember encoded examples, as those that this encoder or another worker's has encoded."""
        for item in items:
            before = self._kept.pop(item.example.id, None)
            self._tokens += item.tokens - (0 if before is None else before.tokens)
            self._kept[item.example.id] = item
            while self._tokens > KEPT_TOKENS and len(self._kept) > 1:
                self._tokens -= self._kept.popitem(last=False)[1].tokens

    def source_row(self, item: Encoded) -> Row:
        """Return the source's own prompt, for source_alone."""
        return Row(before=(), prompt=item.source_ids, header=item.source_header)

    def text_bridge_row(self, example: Example, written: str) -> Row:
        """Return the target's prompt with what the source wrote after the question, for text_bridge."""
        shown = with_written_answer(example, written)
        return self._for_written.read([self.task.prompt(shown)], [shown.question])[0].row

    def question_row(self, example: Example, question: str) -> Row:
        """Return the target's prompt, without soft tokens, with another text in the place of the question."""
        shown = replace(example, question=question)
        return self._for_target.read([self.task.prompt(shown)], [question])[0].row.text_only()

    def summary_row(self, example: Example, tokens: int) -> Row:
        """Return the prompt by which the source is asked for a summary of the question."""
        prompt = summary_prompt(self.task, example, tokens)
        return self._for_summary.read([prompt], [example.question])[0].row.text_only()

    def _encode(self, examples: Sequence[Example]) -> list[Encoded]:
        prompts = [self.task.prompt(example) for example in examples]
        answers = [self.task.continuation(example) for example in examples]
        questions = [example.question for example in examples]
        after_header = self.spec.soft_position == "before_question"
        return [
            self._encoded(*read)
            for read in zip(
                examples,
                answers,
                self._for_source.read(prompts, questions),
                self._for_target.read(prompts, questions, answers, soft_after_header=after_header),
                tokenise(self.target.tokenizer, questions),
                strict=True,
            )
        ]

    def _encoded(
        self, example: Example, answer: str, of_source: ReadPrompt, of_target: ReadPrompt, question: TokenisedText
    ) -> Encoded:
        spec, row = self.spec, of_target.row
        aligned = spec.geometry_projection or spec.injection == "c2c"
        text_row, prompted_row = row.text_only(), None
        if spec.injection != "prepend":
            first, last = of_target.question_tokens
            row = replace(row, injection=spec.injection, span=(first - len(row.before), last - len(row.before)))
        if spec.layout == "soft_only":
            prompted_row = row if spec.prompt_share else None
            row = self._for_instruction.read([self.task.instruction], [""], [answer])[0].row
            if row.answer != text_row.answer:
                raise ValueError(f"{self.target.name} tokenises the answer differently after the instruction")
        return Encoded(
            example=example,
            source_ids=of_source.row.before + of_source.row.prompt,
            question_span=of_source.question_tokens,
            row=row,
            text_row=text_row,
            question_ids=question.ids,
            source_header=of_source.row.header,
            alignment=align_questions(of_source, of_target) if aligned else None,
            prompted_row=prompted_row,
        )
