"""The bodies of requests. What a translator cannot do is refused, unless it is asked for in its neutral form."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cluster.serving.errors import short

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "echo": (False,),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "stop": ("", []),
    "suffix": ("",),
    "logit_bias": ({},),
    "tools": ([],),
    "response_format": ({"type": "text"},),
    "store": (False,),
}
"""Values of OpenAI's other fields that ask for nothing."""
IGNORED = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier"})
"""Fields that change no answer."""


class StreamOptions(BaseModel):
    """How an answer is streamed."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class Sampled(BaseModel):
    """What both endpoints of OpenAI's API take."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="the name that /v1/models lists")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="0, the default, is greedy")
    seed: int | None = Field(None, description="of the sampling; drawn by default")
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _refuse_what_is_not_supported(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            neutral = value is None or name in IGNORED or value in NEUTRAL.get(name, ())
            if not neutral:
                field = {"field": short(name)}
                raise PydanticCustomError("unsupported_field", "{field} is not supported: leave it out", field)
        return self

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def decoding(self, new_tokens: int) -> dict[str, Any]:
        """Return how answers are decoded."""
        seed = secrets.randbelow(1 << 31) if self.seed is None else self.seed
        temperature = self.temperature or 0.0
        return {"temperature": temperature, "seed": seed if temperature else 0, "max_new_tokens": new_tokens}


class Completion(Sampled):
    """Body of /v1/completions."""

    prompt: str | list[str] = Field(description="a question, or several")
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="the job's max_new_tokens by default")

    @field_validator("prompt", mode="before")
    @classmethod
    def _texts(cls, prompt: Any) -> Any:
        several = prompt if isinstance(prompt, list) else [prompt]
        if all(isinstance(question, str) for question in several):
            return prompt
        raise PydanticCustomError(
            "no_question", "give a question, or a list of questions, as texts and not as token ids"
        )

    @property
    def questions(self) -> list[str]:
        """The questions asked."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def new_tokens(self) -> int | None:
        """The limit of an answer that is asked for."""
        return self.max_tokens


class TextPart(BaseModel):
    """A part of a message."""

    type: Literal["text"]
    text: str


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


class Message(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user"] = Field(description="a translator answers one question: no system or assistant messages")
    content: str | list[TextPart]

    @field_validator("content", mode="before")
    @classmethod
    def _texts(cls, content: Any) -> Any:
        if isinstance(content, str) or (isinstance(content, list) and content and all(map(_is_text, content))):
            return content
        raise PydanticCustomError("no_text", "give a text, or parts of the type text: a translator reads nothing else")

    @property
    def text(self) -> str:
        """The message as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatCompletion(Sampled):
    """Body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1, description="one message: the question")]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _one(cls, messages: Any) -> Any:
        if isinstance(messages, list) and len(messages) != 1:
            remedy = (
                "give one, the question, with the role user; a translator takes no system messages or earlier turns"
            )
            raise PydanticCustomError("no_conversation", remedy)
        return messages

    @property
    def questions(self) -> list[str]:
        """The question asked."""
        return [self.messages[0].text]

    @property
    def new_tokens(self) -> int | None:
        """The limit of an answer that is asked for."""
        return self.max_completion_tokens or self.max_tokens


class Comparison(BaseModel):
    """Body of /compare."""

    model_config = ConfigDict(extra="forbid")

    question: str
    conditions: list[str] | None = Field(None, description="some of the conditions; all by default")

    @field_validator("conditions")
    @classmethod
    def _once(cls, conditions: list[str] | None) -> list[str] | None:
        if conditions is not None and len(set(conditions)) < len(conditions):
            raise ValueError("name each condition once")
        return conditions
