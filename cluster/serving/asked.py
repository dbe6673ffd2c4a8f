"""The bodies of requests. What a translator cannot do is refused, unless it is asked for in its neutral form."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
                raise ValueError(f"{name} is not supported: leave it out")
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


class Message(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user"] = Field(description="a translator answers one question: no system or assistant messages")
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The message as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatCompletion(Sampled):
    """Body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1, description="one message: the question")]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

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
