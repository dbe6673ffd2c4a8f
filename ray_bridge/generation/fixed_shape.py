"""Shapes of decoding that depend on a row alone, so that its numbers do not depend on the rows beside it.

A matrix product rounds each of its rows by its shape, not by what the other rows hold, and attention splits its keys by
the size of the cache. Rows decoded in batches of one size, with a cache whose size follows from the row's own length,
are therefore computed alike whichever rows are beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ray_bridge.inputs.rows import Row, shared_header
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import can_cache

ROWS = 64
"""Rows of a batch, whatever `eval_batch_size` is and however many are left."""
BUCKET = 512
"""Slots of a cache are a multiple of it, so that most rows of a task have one size."""


@dataclass(frozen=True, kw_only=True)
class FixedShape:
    """The shape of one decoded batch.

    Attributes:
        rows: of the batch; those that no text fills stay empty.
        slots: positions of each row after a shared header, new tokens included.
    """

    rows: int
    slots: int


@dataclass(frozen=True, kw_only=True)
class BatchShapes:
    """How rows are put into batches of fixed shapes.

    Attributes:
        rows: of every batch.
        bucket: slots are a multiple of it.
    """

    rows: int = ROWS
    bucket: int = BUCKET

    def of(self, positions: int) -> FixedShape:
        """Return the shape of the batch that a row of so many positions belongs to, new tokens included."""
        return FixedShape(rows=self.rows, slots=-(-positions // self.bucket) * self.bucket)


@dataclass(frozen=True, kw_only=True)
class FixedBatch:
    """Rows that are decoded together.

    Attributes:
        shape: of the batch.
        members: indices of its rows, at most `shape.rows`.
        longest: positions that its rows may have at most, their header and new tokens included.
    """

    shape: FixedShape
    members: tuple[int, ...]
    longest: int


def fixed_batches(
    lm: FrozenLM, rows: Sequence[Row], new_tokens: int, shapes: BatchShapes, *, soft: bool, inserted: int
) -> list[FixedBatch]:
    """Put rows into batches of rows that have the same header and belong to the same shape.

    Args:
        lm: the model that decodes them.
        rows: without answers.
        new_tokens: most tokens that a row may get.
        shapes: of the batches.
        soft: whether soft tokens come after each row's `before`.
        inserted: how many are inserted into each row.
    """
    groups: dict[tuple[tuple[int, ...], FixedShape], list[int]] = {}
    for i in sorted(range(len(rows)), key=lambda i: (len(rows[i].before) + len(rows[i].prompt), i)):
        row = rows[i]
        # Of the row alone: rows of a batch may happen to share less.
        header = shared_header([row], soft=soft) if can_cache(lm.config) else ()
        shape = shapes.of(len(row.before) + len(row.prompt) + inserted + new_tokens - len(header))
        groups.setdefault((header, shape), []).append(i)
    return [
        FixedBatch(shape=shape, members=tuple(members[at : at + shape.rows]), longest=len(header) + shape.slots)
        for (header, shape), members in groups.items()
        for at in range(0, len(members), shape.rows)
    ]
