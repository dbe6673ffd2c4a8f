"""What a translator is asked, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from torch import Tensor

from ray_bridge.tasks.task import Example

Question = str | Example


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered.

    Attributes:
        text: the whole answer; `str(answer)` gives it too.
        final: the final answer that the task's strict rule reads from it, None if it has none.
        tokens: tokens that were generated.
        truncated: whether the answer reached the limit of new tokens.
        seconds: wall time of the batch that it was part of.
    """

    text: str
    final: str | None
    tokens: int
    truncated: bool
    seconds: float

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Piece:
    """New text of one of several answers that are decoded together.

    Attributes:
        index: of the question.
        text: the new text; may be empty with the last piece.
        answer: the whole answer, with the last piece of a question; None before.
    """

    index: int
    text: str
    answer: Answer | None


class Decoding(TypedDict, total=False):
    """How answers are decoded.

    Attributes:
        temperature: 0, the default, decodes greedily; above, tokens are sampled.
        seed: of the sampling, 0 by default; one for all questions, or one for each. A question's sample depends on its
            seed and text, not on its batch.
        max_new_tokens: most tokens of an answer; by default the `max_new_tokens` of the job.
        batch_size: questions answered together, 32 by default; changes speed only.
        ids: an id for each question that is a text, None for one without. It seeds the question's noise: with its id in
            the data set a question gets the recorded sample's noise. By default a recorded test question has its
            recorded id, and any other a digest of its text.
    """

    temperature: float
    seed: int | Sequence[int]
    max_new_tokens: int
    batch_size: int
    ids: Sequence[str | None] | None


class SoftTokens(NamedTuple):
    """Soft tokens of B questions.

    Attributes:
        embeds: (B, K, d_t), in the space of the target's input embeddings.
        mask: (B, K), 1 on tokens that are read, which are all.
    """

    embeds: Tensor
    mask: Tensor
