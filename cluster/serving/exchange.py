"""Messages between the HTTP process and the replicas; no torch is imported, which the HTTP process does not need."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question with its settings, as `Translator.generate` takes them."""

    question: str
    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int

    @property
    def settings(self) -> tuple[float, int]:
        """What questions that are decoded together share."""
        return self.temperature, self.max_new_tokens


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A complete answer, as `ray_bridge.Answer` has it."""

    text: str
    final: str | None
    tokens: int
    truncated: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, a piece of one, or why there is none.

    Attributes:
        text: the whole text, or in a stream the next piece.
        answer: the answer; in a stream with its last piece only.
        prompt_tokens: positions that the target read.
        together: questions that were decoded with this one.
        problem: why the question cannot be answered, in one line.
        too_long: whether its length is the problem.
    """

    text: str = ""
    answer: Answered | None = None
    prompt_tokens: int = 0
    together: int = 0
    problem: str | None = None
    too_long: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a replica says about its translator."""

    max_new_tokens: int
    source: str
    target: str
    task: str
