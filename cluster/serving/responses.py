"""Answers in the form of OpenAI's API, whole or as server-sent events."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.serving.exchange import Answered, Reply

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True, kw_only=True)
class Form:
    """The names that one endpoint's answers have.

    Attributes:
        prefix: of the answer's id.
        object: of a whole answer.
        chunk: of a piece.
        chat: whether texts are messages.
        model: name of the model.
        id: of the answer.
        created: when it was asked for, in seconds since 1970.
    """

    prefix: str
    object: str
    chunk: str
    chat: bool
    model: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, replies: Sequence[Reply]) -> dict[str, Any]:
        """Return the body of one or more complete answers."""
        choices = [
            self._choice(i, {"message": {"role": "assistant", "content": reply.text}}, {"text": reply.text}, reply)
            for i, reply in enumerate(replies)
        ]
        return self._body(self.object, choices) | {"usage": usage(replies)}

    def opening(self) -> dict[str, Any]:
        """Return a conversation's first event, which says who speaks."""
        return self._body(self.chunk, [self._choice(0, {"delta": {"role": "assistant", "content": ""}}, {}, None)])

    def piece(self, index: int, reply: Reply) -> dict[str, Any]:
        """Return the event of new text; the last one of an answer says why it ended."""
        delta = {"content": reply.text} if reply.text else {}
        return self._body(self.chunk, [self._choice(index, {"delta": delta}, {"text": reply.text}, reply)])

    def counts(self, replies: Sequence[Reply]) -> dict[str, Any]:
        """Return the event of a stream's counts of tokens."""
        return self._body(self.chunk, []) | {"usage": usage(replies)}

    def _choice(self, index: int, chat: dict[str, Any], text: dict[str, Any], reply: Reply | None) -> dict[str, Any]:
        answer = None if reply is None else reply.answer
        reason = None if answer is None else "length" if answer.truncated else "stop"
        return {"index": index, **(chat if self.chat else text), "logprobs": None, "finish_reason": reason}

    def _body(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def completion(model: str) -> Form:
    """Return the form of /v1/completions."""
    return Form(prefix="cmpl", object="text_completion", chunk="text_completion", chat=False, model=model)


def chat(model: str) -> Form:
    """Return the form of /v1/chat/completions."""
    return Form(prefix="chatcmpl", object="chat.completion", chunk="chat.completion.chunk", chat=True, model=model)


def usage(replies: Sequence[Reply]) -> dict[str, int]:
    """Return the counts of tokens; soft tokens count as read, as does the task's prompt."""
    read = sum(reply.prompt_tokens for reply in replies)
    written = sum(reply.answer.tokens for reply in replies if reply.answer is not None)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def event(body: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def compared(answer: Answered) -> dict[str, Any]:
    """Return one condition's answer in /compare."""
    return {
        "text": answer.text,
        "final": answer.final,
        "tokens": answer.tokens,
        "truncated": answer.truncated,
        "milliseconds": round(1000 * answer.seconds, 1),
    }
