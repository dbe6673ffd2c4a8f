"""Examples as both models read them: token ids, and the span of the question in the source's prompt."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.layout import answer_row
from ray_bridge.inputs.rows import Row, token_ids
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_alignment import TokenAlignment, align_tokens, byte_spans
from ray_bridge.tasks.task import Example, Task, with_written_answer

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
        alignment: how the question's source tokens are pooled onto the target's; None without geometry_projection.
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
    ) -> None:
        """Initialise the encoder.

        Args:
            spec: the layout.
            task: prompts and answers.
            header: few-shot part of every prompt.
            source: the model that reads.
            target: the model that answers.
            written_header: few-shot part of the prompts of `text_bridge`; as `header` if None.
        """
        self.spec, self.task, self.header = spec, task, header
        self.written_header = header if written_header is None else written_header
        self.source, self.target = source, target
        # Not functools.cache on a method: it would hold the encoder, and with it both models, until the garbage
        # collector runs, which GPU memory does not wait for.
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._tokens = 0

    def __call__(self, examples: Sequence[Example]) -> list[Encoded]:
        """Return the examples as both models read them; the last ones are remembered by their id."""
        return [self._remembered(example) for example in examples]

    def _remembered(self, example: Example) -> Encoded:
        known = self._kept.pop(example.id, None)
        if known is not None and known.example != example:
            self._tokens -= known.tokens
            known = None
        if known is None:
            known = self._encode(example)
            self._tokens += known.tokens
        self._kept[example.id] = known
        while self._tokens > KEPT_TOKENS and len(self._kept) > 1:
            self._tokens -= self._kept.popitem(last=False)[1].tokens
        return known

    def source_row(self, example: Example) -> Row:
        """Return the source's own prompt, for source_alone."""
        return answer_row(self.source, self.header, self.task.prompt(example), None, soft_after_header=False)

    def text_bridge_row(self, example: Example, written: str) -> Row:
        """Return the target's prompt with what the source wrote after the question, for text_bridge."""
        prompt = self.task.prompt(with_written_answer(example, written))
        return answer_row(self.target, self.written_header, prompt, None, soft_after_header=False)

    def _encode(self, example: Example) -> Encoded:
        prompt, answer = self.task.prompt(example), self.task.continuation(example)
        header = self.header
        source_ids, span = question_span(self.source, header, prompt, example.question)
        after_header = self.spec.soft_position == "before_question"
        row = answer_row(self.target, header, prompt, answer, soft_after_header=after_header)
        text_row, prompted_row = row.text_only(), None
        if self.spec.injection != "prepend":
            first, last = question_span(self.target, header, prompt, example.question)[1]
            begin = len(row.before)
            row = replace(row, injection=self.spec.injection, span=(first - begin, last - begin))
        if self.spec.layout == "soft_only":
            prompted_row = row if self.spec.prompt_share else None
            row = answer_row(self.target, "", self.task.instruction, answer, soft_after_header=False)
            if row.answer != text_row.answer:
                raise ValueError(f"{self.target.name} tokenises the answer differently after the instruction")
        return Encoded(
            example=example,
            source_ids=source_ids,
            question_span=span,
            row=row,
            text_row=text_row,
            question_ids=token_ids(self.target.tokenizer, example.question),
            source_header=answer_row(self.source, header, prompt, None, soft_after_header=False).header,
            alignment=self._alignment(header, prompt, example.question) if self.spec.geometry_projection else None,
            prompted_row=prompted_row,
        )

    def _alignment(self, header: str, prompt: str, question: str) -> TokenAlignment:
        begin = len(header) + prompt.rindex(question)
        end = begin + len(question)
        return align_tokens(self.source.tokenizer, self.target.tokenizer, header + prompt, begin, end)


def question_span(lm: FrozenLM, header: str, prompt: str, question: str) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Return the prompt's ids with BOS, and the half-open range of the tokens that cover bytes of the question."""
    before = header + prompt[: prompt.rindex(question)]
    begin, end = len(before.encode()), len((before + question).encode())
    spans = byte_spans(lm.tokenizer, header + prompt)  # (tokens, 2)
    inside = [i for i, (low, high) in enumerate(spans.tolist(), 1) if max(low, begin) < min(high, end)]
    return (lm.bos, *token_ids(lm.tokenizer, header + prompt)), (inside[0], inside[-1] + 1)
