"""Prompts as one model reads them: the task's text as it is, or turns of the model's own chat template."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bridge_common.errors import UserError
from ray_bridge.inputs.layout import row_of
from ray_bridge.inputs.rows import Row
from ray_bridge.inputs.tokenised import HeaderTokenizer, TokenisedText, tokenise
from ray_bridge.models.chat_template import Turn
from ray_bridge.models.text_reader import TextReader
from ray_bridge.models.token_alignment import ByteSpans, TokenAlignment, align_spans
from ray_bridge.tasks.task import Example, Task


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadPrompt:
    """A prompt, tokenised for a model.

    Attributes:
        row: with the answer if there is one.
        text: header and prompt.
        question: (low, high), the question's bytes in the text.
    """

    row: Row
    text: TokenisedText
    question: tuple[int, int]

    @cached_property
    def spans(self) -> ByteSpans:
        """Which bytes of the text each token covers; positions count after the row's first token."""
        spans = self.text.byte_spans
        before = len(self.row.before) + len(self.row.prompt) - len(self.text.ids)  # 1 if BOS is not in the text
        return replace(spans, first=spans.first + before - 1)

    @property
    def question_tokens(self) -> tuple[int, int]:
        """First and one past the last token of the question, BOS counted."""
        first, last = self.spans.inside(*self.question)
        return first + 1, last + 1


class PromptReader:
    """Tokenises prompts that follow the same exemplars, for one model.

    In a conversation every exemplar is a turn. What stands before the last question, the exemplars included, is the
    header; soft tokens that come first stand where the first question begins, after what opens the conversation.

    Args:
        lm: the model.
        header: few-shot part of every prompt, where the model reads text as it is.
        turns: the same exemplars for a model that reads conversations.
    """

    def __init__(self, lm: TextReader, header: str, turns: Sequence[Turn] = ()) -> None:
        self.lm, self.turns = lm, turns
        self.header, self._opening, self._closing = header, "", ""
        if lm.chat is not None:
            # Some tokenizers make one token of a space and what follows it.
            before, self._closing = lm.chat.around_question(turns)
            self.header, self._opening = before.rstrip(" "), lm.chat.opening(turns).rstrip(" ")
        self._tokenise = HeaderTokenizer(lm.tokenizer, self.header)
        self._opened: tuple[int, ...] | None = None

    def read(
        self,
        prompts: Sequence[str],
        questions: Sequence[str],
        answers: Sequence[str] | None = None,
        *,
        soft_after_header: bool = False,
    ) -> list[ReadPrompt]:
        """Return prompts as the model reads them.

        Args:
            prompts: the task's.
            questions: what of each prompt is the question.
            answers: the task's continuations, for training, or None if answers are generated.
            soft_after_header: as in `answer_row`.

        Raises:
            UserError: if a chat template writes the exemplars differently before different questions.
            ValueError: if a prompt's ids differ with and without its answer.
        """
        asked = [self._asked(prompt) for prompt in prompts]
        read = self._tokenise(asked)
        answered: Sequence[TokenisedText | None] = [None] * len(prompts)
        if answers is not None:
            longer = [self._answered(*texts) for texts in zip(prompts, answers, strict=True)]
            answered = self._tokenise.continued(asked, read, longer)
        return [self._placed(*texts, soft_after_header) for texts in zip(asked, questions, read, answered, strict=True)]

    def _asked(self, prompt: str) -> str:
        """Return what follows the header, up to the place where the answer begins."""
        chat = self.lm.chat
        return prompt if chat is None else self._after_header(chat.question(self.turns, prompt))

    def _answered(self, prompt: str, answer: str) -> str:
        chat = self.lm.chat
        if chat is None:
            return prompt + answer
        return self._after_header(chat.answered(self.turns, prompt, answer.strip()))

    def _after_header(self, text: str) -> str:
        if not text.startswith(self.header):
            raise UserError(
                f"{self.lm.name}: what its chat template writes of exemplars depends on the question after them; use "
                "num_fewshot=0 or prompt_format=raw"
            )
        return text[len(self.header) :]

    def _placed(
        self,
        asked: str,
        question: str,
        read: TokenisedText,
        answered: TokenisedText | None,
        soft_after_header: bool,
    ) -> ReadPrompt:
        ends = len(self.header), len(self.header) + len(asked)
        opening = 0 if soft_after_header else self._opening_tokens(asked, read)
        row = row_of(self.lm, read, answered, ends, soft_after_header=soft_after_header, opening=opening)
        content = asked.removesuffix(self._closing)
        question = question if question in content else question.strip()  # some templates strip what the user says
        begin = content.rfind(question)
        if begin < 0:
            raise UserError(
                f"{self.lm.name}: its chat template changes what a user says ({question[:40]!r}); use prompt_format=raw"
            )
        low = len(self.header.encode()) + len(asked[:begin].encode())
        return ReadPrompt(row=row, text=read, question=(low, low + len(question.encode())))

    def _opening_tokens(self, asked: str, read: TokenisedText) -> int:
        """Return how many tokens come before the first thing that the user says."""
        if not self._opening:
            return 0
        if self._opened is None or read.ids[: len(self._opened)] != self._opened:
            (whole,) = tokenise(self.lm.tokenizer, [self.header + asked])
            self._opened = whole.ids[: whole.tokens_before(len(self._opening), whole_tokens=True)]
        return len(self._opened)


def turns_of(task: Task, exemplars: Sequence[Example]) -> list[Turn]:
    """Return solved examples as the earlier turns of a conversation."""
    return [Turn(user=task.prompt(e), assistant=task.continuation(e).strip()) for e in exemplars]


def align_questions(source: ReadPrompt, target: ReadPrompt) -> TokenAlignment:
    """Align the tokens of one question in two prompts, which in conversations differ in what is around it."""
    low, high = target.question
    of_source = replace(source.spans, spans=source.spans.spans + (low - source.question[0]))
    return align_spans(of_source, target.spans, low, high)
