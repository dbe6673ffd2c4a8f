"""How many positions a prompt has, by what reading it takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from ray_bridge.inputs.rows import Row, shared_header


@dataclass(frozen=True, kw_only=True)
class PromptSize:
    """Positions of one prompt.

    Attributes:
        read: positions that are read for this question, soft tokens included.
        cached: positions of the few-shot header before them, whose keys and values are computed once for all questions.
        choices: tokens of each continuation of which the likeliest is chosen; empty if an answer is generated.
    """

    read: int
    cached: int
    choices: tuple[int, ...] = ()

    @classmethod
    def of(cls, row: Row, inserted: int | None, choices: Sequence[int] = ()) -> "PromptSize":
        """Return the size of a row without its answer.

        Args:
            row: the prompt.
            inserted: soft tokens that are inserted into it; None if it is read without any.
            choices: tokens of each continuation.
        """
        cached = len(shared_header([row], soft=inserted is not None))
        read = len(row.before) + len(row.prompt) + (inserted or 0) - cached
        return cls(read=read, cached=cached, choices=tuple(choices))
