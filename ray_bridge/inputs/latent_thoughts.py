"""Latent thoughts: states of a model that goes on after a prompt without writing any token.

Each step's last hidden state is the next step's input, mapped to the space of input embeddings by ridge regression
between the model's output and input embedding tables (LatentMAS, Zou et al. 2025). The states of these steps are what
another model reads (Interlat, Du et al. 2025, passes on the last hidden states of written tokens). In both papers these
are states of the last layer, which the head would turn into the next token, so `source_layer` does not count here.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bridge_common.errors import UserError
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import count_positions

STRENGTH = 1e-3
"""Ridge of the map to input embeddings, in units of the mean square of an output embedding's dimension."""

_maps: WeakKeyDictionary[FrozenLM, Tensor] = WeakKeyDictionary()


def to_inputs(lm: FrozenLM) -> Tensor:
    """Return the map (d, d) from a last hidden state to an input embedding, made once for each model.

    Raises:
        UserError: if the model's head has no table of output embeddings.
    """
    if lm not in _maps:
        outputs = getattr(lm.head, "weight", None)
        if outputs is None:
            raise UserError(f"latent_steps: {lm.name} has no table of output embeddings; use latent_steps=0")
        _maps[lm] = alignment(outputs.detach(), lm.embedding_table()).to(lm.dtype)
    return _maps[lm]


def alignment(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Return the ridge regression of input on output embeddings, (V, d) and (V, d) -> (d, d), in float64."""
    x, y = outputs.double(), inputs.double()  # (V, d) each
    square = x.T @ x  # (d, d)
    square += STRENGTH * square.diagonal().mean() * torch.eye(len(square), dtype=x.dtype, device=x.device)
    return torch.linalg.solve(square, x.T @ y)  # (d, d)


@torch.no_grad()
def think(source: FrozenLM, items: Sequence[Encoded], steps: int) -> SourceBatch:
    """Let the source go on for some latent steps after its prompts, and return the last hidden state of each.

    An input has the size of a token's embedding: states are larger than the rows of the table that the map was
    fitted on. Rows run in transformers' layers, and a few-shot header is read in every row.

    Args:
        source: the frozen source.
        items: B examples.
        steps: m.

    Returns:
        States (B, m, d_s), fp32 or wider, after the final norm, with a mask of ones.
    """
    from transformers import DynamicCache

    device, length = source.device, max(len(item.source_ids) for item in items)
    source.check_length(length + steps, f"a prompt with {steps} latent steps")
    ids = [[source.pad] * (length - len(item.source_ids)) + list(item.source_ids) for item in items]
    mask = torch.tensor(
        [[0] * (length - len(i.source_ids)) + [1] * len(i.source_ids) for i in items], device=device
    )  # (B, L)
    cache, to_embedding = DynamicCache(config=source.model.config), to_inputs(source)
    positions = count_positions(mask)  # (B, L)
    embeds = source.embed(torch.tensor(ids, device=device))  # (B, L, d)
    thoughts: list[Tensor] = []
    for step in range(steps + 1):
        hidden = source.run_transformers(
            None,
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )[:, -1]  # (B, d)
        if step:  # the first pass has read the prompt
            thoughts.append(hidden)
        made = (hidden @ to_embedding).to(torch.promote_types(hidden.dtype, torch.float32))  # (B, d)
        made = made * (source.embedding_rms / made.pow(2).mean(-1, keepdim=True).sqrt())  # (B, d)
        embeds = made[:, None].to(source.dtype)  # (B, 1, d)
        mask = torch.cat([mask, mask.new_ones(len(items), 1)], 1)  # (B, L + step + 1)
        positions = positions[:, -1:] + 1  # (B, 1)
    states = torch.stack(thoughts, 1)  # (B, m, d)
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    return SourceBatch(states=states, mask=mask.new_ones(states.shape[:2]), items=items)
