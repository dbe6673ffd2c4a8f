"""Conversations as a model's own chat template writes them: turns of a user and an assistant, and where a turn ends.

No system message is given, since some templates refuse one; a template's own default stays. What a template could take
from outside is fixed: its date is always the same day, and models that can think before they answer do not, because
answers here are short and the gold ones have no thoughts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from bridge_common.errors import UserError
from ray_bridge.config.prompt_format import no_chat_template
from ray_bridge.models.token_spelling import special_ids

_TODAY = date(2024, 7, 26)
"""The day that templates write; Llama's fall back to it themselves."""

_FIXED: dict[str, Any] = {"strftime_now": _TODAY.strftime, "enable_thinking": False}
_THINK, _NO_THOUGHTS = "<think>", "\n\n</think>\n\n"
"""What opens thoughts, and what closes none: some templates open them whatever `enable_thinking` says."""
_MARK = "\ue000content\ue001"
"""Stands for a message where only what is around it is wanted; characters for private use, which no text has."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question with its answer, as the user and the assistant of an earlier turn write them."""

    user: str
    assistant: str


class ChatTemplate:
    """A tokenizer's chat template.

    Attributes:
        end: id of the token that ends the assistant's turn, None if the template writes none.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        """Initialise the template.

        Args:
            tokenizer: of the model.
            name: of the model, for messages.

        Raises:
            UserError: if the tokenizer has no chat template, or one that writes no conversation of user and assistant.
        """
        self.tokenizer, self.name = tokenizer, name
        if not tokenizer.chat_template:
            raise UserError(no_chat_template(name))
        around = self._render([("user", "question"), ("assistant", _MARK)], False).split(_MARK)
        if len(around) != 2:
            raise UserError(f"{name}: its chat template leaves out what an assistant says; use prompt_format=raw")
        self._after_answer = around[1]
        self._opens_thoughts = self._render([("user", _MARK)], True).rpartition(_MARK)[2].rstrip().endswith(_THINK)
        self.end = self._first_special(self._after_answer)

    def around_question(self, turns: Sequence[Turn]) -> tuple[str, str]:
        """Return what stands before and after the question that follows some turns; the answer comes next."""
        before, after = self._split([*_messages(turns), ("user", _MARK)])
        return before, after

    def opening(self, turns: Sequence[Turn]) -> str:
        """Return the text before the first message of the user."""
        first = [*_messages(turns), ("user", _MARK)]
        return self._split([("user", _MARK), *(("user", "q") if r == "user" else (r, c) for r, c in first[1:])])[0]

    def question(self, turns: Sequence[Turn], question: str) -> str:
        """Return a conversation up to the position at which the assistant's answer begins."""
        return self._until_answer([*_messages(turns), ("user", question)])

    def answered(self, turns: Sequence[Turn], question: str, answer: str) -> str:
        """Return a conversation up to the end of an answer, without the token that ends the turn."""
        asked = self.question(turns, question)
        whole = self._render([*_messages(turns), ("user", question), ("assistant", answer)], False)
        if whole.startswith(asked):  # some templates write a space before an answer
            return whole.removesuffix(self._after_answer)
        return asked + answer

    def _split(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        before, *after = self._until_answer(messages).split(_MARK)
        if len(after) != 1:
            raise UserError(f"{self.name}: its chat template leaves out what a user says; use {_remedy(messages)}")
        return before, after[0]

    def _until_answer(self, messages: Sequence[tuple[str, str]]) -> str:
        text = self._render(messages, True)
        return text.rstrip() + _NO_THOUGHTS if self._opens_thoughts else text

    def _render(self, messages: Sequence[tuple[str, str]], answers_next: bool) -> str:
        from jinja2 import TemplateError

        conversation = [{"role": role, "content": content} for role, content in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=answers_next, **_FIXED
            )
        except (TemplateError, ValueError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"{self.name}: its chat template writes no turns of user and assistant ({reason}); use "
                f"{_remedy(messages)}"
            ) from error
        return str(text)

    def _first_special(self, text: str) -> int | None:
        """Return the first special token of a text, if nothing but white space is before it."""
        ids = self.tokenizer(text.lstrip(), add_special_tokens=False)["input_ids"]
        return int(ids[0]) if ids and ids[0] in special_ids(self.tokenizer) else None


def _remedy(messages: Sequence[tuple[str, str]]) -> str:
    return "num_fewshot=0 or prompt_format=raw" if len(messages) > 2 else "prompt_format=raw"


def _messages(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    return [message for turn in turns for message in (("user", turn.user), ("assistant", turn.assistant))]
