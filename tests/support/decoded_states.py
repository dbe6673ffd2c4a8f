"""The states from which rows' tokens are chosen, for tests of whether they depend on the rows decoded beside them."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ray_bridge.generation.fixed_shape import FixedShape
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext


class Recorder:
    """Decodes parts of some rows without CUDA graphs, and keeps each row's last hidden states.

    Args:
        lm: the model.
        rows: without answers.
        soft: soft tokens of each row, or None.
        new_tokens: that are decoded.
        patch: undoes what this changes on the model.
    """

    def __init__(
        self, lm: FrozenLM, rows: Sequence[Row], soft: SoftContext | None, new_tokens: int, patch: pytest.MonkeyPatch
    ) -> None:
        self.lm, self.rows, self.soft, self.new_tokens = lm, rows, soft, new_tokens
        self.seen: list[Tensor] = []
        head = lm.logits

        def logits(hidden: Tensor) -> Tensor:
            self.seen.append(hidden.clone())
            return head(hidden)

        patch.setattr(lm, "logits", logits)

    def states(self, part: Sequence[int], shape: FixedShape | None) -> dict[int, Tensor]:
        """Return the states (T, d) of rows that are decoded together, by index."""
        self.seen.clear()
        rows, soft = [self.rows[i] for i in part], None if self.soft is None else self.soft.rows(list(part))
        ids = decode_graphed(self.lm, rows, soft, self.new_tokens, shape=shape, capture=False)
        lengths = [len(row.before) + len(row.prompt) for row in rows]
        order = sorted(range(len(part)), key=lambda at: (lengths[at], at))  # as rows are put into a batch
        states = torch.stack(self.seen, 1)  # (b, T, d)
        # What comes after a row's end depends on how long others are decoded.
        return {part[at]: states[place, : len(ids[at])] for place, at in enumerate(order)}

    def differing(self, parts: Sequence[Sequence[int]], shape: FixedShape | None) -> int:
        """Return how many rows have other bits in one of the parts than alone."""
        alone = {i: self.states([i], shape)[i] for i in range(len(self.rows))}
        decoded = [self.states(part, shape) for part in parts]
        return sum(not torch.equal(states, alone[i]) for part in decoded for i, states in part.items())
