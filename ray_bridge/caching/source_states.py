"""The frozen source's states of training prompts, so that no training step runs the source."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ray_bridge.caching.frozen_states import LIMIT, Extract, FrozenStates
from ray_bridge.gpu.transfer import PackedTransfer
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import SourceBatch, read_source
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.task import Example


class SourceStates(FrozenStates):
    """One layer's states of the questions' tokens.

    Args:
        source: the frozen source.
        encode: encodes examples.
        examples: the examples whose states are stored.
        layer: 0 for the embeddings, n for the output of layer n, negative from the end.
        identity: the source's digest.
        folder: folder of the files; see `FrozenStates`.
        latent_steps: m; if not 0, there are m states of each example, those of latent steps.
        read: reads examples if not by `read_source`, as `ModelPair.read_source`.
        limit: bytes that all files of the folder may take.
    """

    name = "source"

    def __init__(
        self,
        source: FrozenLM,
        encode: Callable[[Sequence[Example]], Sequence[Encoded]],
        examples: Sequence[Example],
        layer: int,
        identity: Any,
        folder: Path | None,
        *,
        latent_steps: int = 0,
        read: Callable[[Sequence[Encoded]], SourceBatch] | None = None,
        limit: int = LIMIT,
    ) -> None:
        states = ["latent steps", latent_steps] if latent_steps else layer
        super().__init__(source, encode, examples, [identity, states], folder, limit=limit)
        self.latent_steps = latent_steps
        self._read = read or (lambda items: read_source(source, items, layer))

    def extract(self, item: Encoded) -> Extract:
        """Return the question's span of the source's prompt, or as many states as there are latent steps."""
        if self.latent_steps:
            return Extract(ids=item.source_ids, begin=0, end=self.latent_steps)
        begin, end = item.question_span
        return Extract(ids=item.source_ids, begin=begin, end=end)

    def compute(self, items: Sequence[Encoded]) -> Tensor:
        """Run the source; return the questions' states, (tokens, d_s).

        Raises:
            UserError: if the source has no such layer.
        """
        extracts = [self.extract(item) for item in items]
        rows = zip(self._read(items).states, extracts, strict=True)
        # By lengths that the host knows: to find them in the mask, it would wait for the device.
        return torch.cat([states[: extract.end - extract.begin] for states, extract in rows])  # (tokens, d_s)

    def __call__(self, items: Sequence[Encoded]) -> SourceBatch:
        """Return what `read_source` does, from stored states if all items have them.

        Raises:
            UserError: if the source has no such layer.
        """
        rows = self.lookup(items)
        if rows is None:
            return self._read(items)
        S = max(len(row) for row in rows)
        transfer = PackedTransfer(
            self.lm.device, ((len(rows), S, rows[0].shape[1]), rows[0].dtype), ((len(rows), S), torch.long)
        )
        states, mask = transfer.host  # (B, S, d_s), (B, S)
        for i, row in enumerate(rows):
            states[i, : len(row)], states[i, len(row) :] = row, 0
            mask[i, : len(row)], mask[i, len(row) :] = 1, 0
        states, mask = transfer.send()
        return SourceBatch(states=states.to(torch.promote_types(states.dtype, torch.float32)), mask=mask, items=items)
