"""The KL teacher's states of training answers, so that no training step runs the target without soft tokens.

The teacher is the frozen target that reads prompt and gold answer as text. Its last hidden states are kept rather than
its logits, which are thirty times as large and one product away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_bridge.caching.frozen_states import Extract, FrozenStates
from ray_bridge.gpu.transfer import PackedTransfer
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.layout import assemble_shared


@dataclass(frozen=True, kw_only=True)
class AnswerStates:
    """What the teacher holds wherever the next token is an answer token, packed over rows; N answer tokens with EOS.

    Attributes:
        states: (N, d_t) last hidden states, in the target's dtype.
        ids: each row's answer tokens, for comparison with those that the student is asked for.
    """

    states: Tensor
    ids: Sequence[tuple[int, ...]]


class TeacherStates(FrozenStates):
    """The target's last hidden states of text rows, at the positions whose next token is an answer token."""

    kind = "teacher"

    def extract(self, item: Encoded) -> Extract:
        row = item.text_row
        ids = (*row.before, *row.prompt, *row.answer)
        return Extract(ids=ids, begin=len(ids) - len(row.answer) - 1, end=len(ids) - 1)

    def read(self, items: Sequence[Encoded]) -> Tensor:
        batch = assemble_shared(self.lm, [item.text_row for item in items], None, pad="right")
        with torch.no_grad():
            hidden = self.lm.hidden(
                batch.embeds, batch.mask, batch.positions, prefix=batch.prefix, right_padded=True
            )  # (B, L, d_t)
        return hidden[batch.answers.rows, batch.answers.at]  # (N, d_t)

    def __call__(self, items: Sequence[Encoded]) -> AnswerStates | None:
        """The teacher's states of the items' answers, or None where they are not kept."""
        rows = self.rows(items)
        if rows is None:
            return None
        transfer = PackedTransfer(self.lm.device, ((sum(map(len, rows)), rows[0].shape[1]), rows[0].dtype))
        torch.cat(rows, out=transfer.host[0])
        extracts = [self.extract(item) for item in items]
        ids = [extract.ids[extract.begin + 1 : extract.end + 1] for extract in extracts]
        return AnswerStates(states=transfer.send()[0], ids=ids)
