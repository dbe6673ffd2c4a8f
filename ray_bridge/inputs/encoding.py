"""Examples as both models read them: token ids, and the span of the question in the source's prompt."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.layout import answer_row, row_of
from ray_bridge.inputs.rows import Row
from ray_bridge.inputs.tokenised import HeaderTokenizer, TokenisedText, tokenise
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_alignment import TokenAlignment, align_spans
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
        self._for_source = HeaderTokenizer(source.tokenizer, header)
        self._for_target = HeaderTokenizer(target.tokenizer, header)
        self._for_written = HeaderTokenizer(target.tokenizer, self.written_header)
        # Not functools.cache on a method: it would hold the encoder, and with it both models, until the garbage
        # collector runs, which GPU memory does not wait for.
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._tokens = 0

    def __call__(self, examples: Sequence[Example]) -> list[Encoded]:
        """Return the examples as both models read them; the last ones are remembered by their id."""
        known = [self._recall(example) for example in examples]
        unknown = [example for example, one in zip(examples, known, strict=True) if one is None]
        fresh = self._encode(unknown) if unknown else []
        for encoded in fresh:
            self._remember(encoded)
        rest = iter(fresh)
        return [next(rest) if one is None else one for one in known]

    def _recall(self, example: Example) -> Encoded | None:
        known = self._kept.get(example.id)
        if known is None or known.example != example:
            return None
        self._kept.move_to_end(example.id)
        return known

    def _remember(self, encoded: Encoded) -> None:
        before = self._kept.pop(encoded.example.id, None)
        self._tokens += encoded.tokens - (0 if before is None else before.tokens)
        self._kept[encoded.example.id] = encoded
        while self._tokens > KEPT_TOKENS and len(self._kept) > 1:
            self._tokens -= self._kept.popitem(last=False)[1].tokens

    def source_row(self, example: Example) -> Row:
        """Return the source's own prompt, for source_alone."""
        return _question_row(self.source, self._for_source, self.task.prompt(example))

    def text_bridge_row(self, example: Example, written: str) -> Row:
        """Return the target's prompt with what the source wrote after the question, for text_bridge."""
        prompt = self.task.prompt(with_written_answer(example, written))
        return _question_row(self.target, self._for_written, prompt)

    def _encode(self, examples: Sequence[Example]) -> list[Encoded]:
        prompts = [self.task.prompt(example) for example in examples]
        answers = [self.task.continuation(example) for example in examples]
        return [
            self._encoded(*texts)
            for texts in zip(
                examples,
                prompts,
                answers,
                self._for_source(prompts),
                self._for_target(prompts),
                self._for_target([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]),
                tokenise(self.target.tokenizer, [example.question for example in examples]),
                strict=True,
            )
        ]

    def _encoded(
        self,
        example: Example,
        prompt: str,
        answer: str,
        of_source: TokenisedText,
        of_target: TokenisedText,
        answered: TokenisedText,
        question: TokenisedText,
    ) -> Encoded:
        spec, header = self.spec, self.header
        begin = len(header) + prompt.rindex(example.question)
        low = len(header.encode()) + len(prompt[: begin - len(header)].encode())
        high = low + len(example.question.encode())
        ends = len(header), len(header) + len(prompt)
        after_header = spec.soft_position == "before_question"
        row = row_of(self.target, of_target, answered, ends, soft_after_header=after_header)
        text_row, prompted_row = row.text_only(), None
        if spec.injection != "prepend":
            first, last = of_target.byte_spans.inside(low, high)
            shift = 1 - len(row.before)  # BOS opens the row, and `span` counts in its prompt
            row = replace(row, injection=spec.injection, span=(first + shift, last + shift))
        if spec.layout == "soft_only":
            prompted_row = row if spec.prompt_share else None
            row = answer_row(self.target, "", self.task.instruction, answer, soft_after_header=False)
            if row.answer != text_row.answer:
                raise ValueError(f"{self.target.name} tokenises the answer differently after the instruction")
        first, last = of_source.byte_spans.inside(low, high)
        return Encoded(
            example=example,
            source_ids=(self.source.bos, *of_source.ids),
            question_span=(first + 1, last + 1),
            row=row,
            text_row=text_row,
            question_ids=question.ids,
            source_header=1 + of_source.tokens_before(ends[0]),
            alignment=align_spans(of_source.byte_spans, of_target.byte_spans, low, high)
            if spec.geometry_projection
            else None,
            prompted_row=prompted_row,
        )


def _question_row(lm: FrozenLM, tokenizer: HeaderTokenizer, prompt: str) -> Row:
    (read,) = tokenizer([prompt])
    header = len(tokenizer.header)
    return row_of(lm, read, None, (header, header + len(prompt)), soft_after_header=False)
