"""The KL teacher's states of training answers, so that no training step runs the target without soft tokens.

The teacher is the frozen target that reads prompt and gold answer as text. Its last hidden states are stored rather
than its logits, which are thirty times as large and follow from them by one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_bridge.caching.frozen_states import Extract, FrozenStates
from ray_bridge.gpu.transfer import PackedTransfer
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.layout import assemble_after_prefix


@dataclass(frozen=True, kw_only=True)
class AnswerStates:
    """The teacher's states at the positions whose next token is an answer token, packed over rows; N tokens with EOS.

    Attributes:
        states: (N, d_t) last hidden states, in the target's dtype.
        ids: each row's answer tokens, for comparison with the student's.
    """

    states: Tensor
    ids: Sequence[tuple[int, ...]]


class TeacherStates(FrozenStates):
    """The target's last hidden states of text rows, at the positions whose next token is an answer token."""

    name = "teacher"

    def extract(self, item: Encoded) -> Extract:
        """Return the positions before each token of the answer in the text row."""
        row = item.text_row
        ids = (*row.before, *row.prompt, *row.answer)
        return Extract(ids=ids, begin=len(ids) - len(row.answer) - 1, end=len(ids) - 1)

    def compute(self, items: Sequence[Encoded]) -> Tensor:
        """Run the target on text rows; return its states before answer tokens, (N, d_t)."""
        batch = assemble_after_prefix(self.lm, [item.text_row for item in items], None, pad="right")
        with torch.no_grad():
            hidden = self.lm.hidden(
                batch.embeds, batch.mask, batch.positions, prefix=batch.prefix, right_padded=True
            )  # (B, L, d_t)
        return hidden[batch.answers.rows, batch.answers.at]  # (N, d_t)

    def __call__(self, items: Sequence[Encoded]) -> AnswerStates | None:
        """Return the teacher's states of the items' answers, or None if they are not stored."""
        rows = self.lookup(items)
        if rows is None:
            return None
        transfer = PackedTransfer(self.lm.device, ((sum(map(len, rows)), rows[0].shape[1]), rows[0].dtype))
        torch.cat(rows, out=transfer.host[0])
        extracts = [self.extract(item) for item in items]
        ids = [extract.ids[extract.begin + 1 : extract.end + 1] for extract in extracts]
        return AnswerStates(states=transfer.send()[0], ids=ids)
