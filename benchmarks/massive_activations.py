"""Give models of random weights the massive activations of real ones, so that no check passes on tame numbers alone.

In real Llama-like models a few channels are some 100 to 10,000 times the median magnitude at the first token, from an
early layer until the last ones, always the same channels and nearly the same values (Sun et al. 2024, "Massive
Activations in Large Language Models"); a few others are ten to a hundred times the median at every token. SmolLM2-135M-
Instruct on BOS and a GSM8K question (71 tokens, fp32), magnitudes over the median of the layer's output:

| output of layer | largest at the first token | largest elsewhere |
|---|---|---|
| embeddings | 15 | 12 |
| 1, 2 | 56, 323 | 42, 164 |
| 3 to 9 | 761 falling to 356 | 658 falling to 359 |
| 10, 11 | 23, 16 | 204, 74 |
| 12 to 28 | 13,680 falling to 2,330 (24,900 in channel 507, 1,830 in 247, 914 in 14) | 76 falling to 44, then 58 |
| 29 | 883 | 58 |
| 30, after the final norm | 35 | 63 |

The weights of its norms are small at these channels (0.0003 to 0.3, where others are 0.2 to 0.4), and of its attention
from the 21st token on 29 to 66 % rests on the first token in layers 13 to 30, 0 to 16 % before. Without BOS its first
token has the same massive activations; those made here are tied to BOS, which opens every row of a job.

How it is done: BOS gets a mark in a channel of its own. One unit of the first layer's MLP reads the mark and writes
`TIMES` times the median into three channels; one of the last layer's reads the first of these and takes 99 % out again.
A second unit of the first layer keeps two channels at up to `EVERYWHERE` times the median at all tokens. Norms shrink
these five channels. As in real models, too, attention rests on the massive token, whose values are small: after the
first layer every second query head has a constant feature, to which the keys of the massive channel answer with a score
of `SINK`. Other weights stay as they are. Sizes follow from passes over BOS and random ids, so any width and depth will
do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.noise import generator, stable_seed

WEIGHTS = ("plain", "massive")
"""Random weights as they are initialised; the same with massive activations."""
MARK = 15.0
"""BOS's mark over the median magnitude of the embeddings."""
TIMES = 3000.0
"""The largest massive activation over the median magnitude of the middle layer's output."""
PARTS = (1.0, -0.2, 0.1)
"""The massive channels' values, relative to the largest."""
REST = 0.01
"""Share of the massive activations that the last layer leaves."""
EVERYWHERE = 50.0
"""The largest magnitude at the other tokens, over the same median."""
SHRINK = 0.02
"""Factor on the norms' weights at all of these channels."""
SINK = 7.0
"""What is added to the first token's attention score: e ** 7 other tokens together then get as much attention."""
ROUNDS = 4
"""Times that `EVERYWHERE` is aimed at: large channels shrink the others, which shrinks what those add to the median."""
GATE = 8.0
"""What gate and up projection of a unit give where it is on: its activation is then about its square."""


@dataclass(frozen=True, kw_only=True)
class Magnitudes:
    """Sizes of one layer's output.

    Attributes:
        median: median magnitude over all tokens and channels.
        first: largest magnitude at the first token, over the median.
        elsewhere: largest magnitude at the other tokens, over the median.
        channels: those with the largest magnitudes at the first token, largest first.
    """

    median: float
    first: float
    elsewhere: float
    channels: tuple[int, ...]


@torch.no_grad()
def magnitudes(model: Any, ids: Tensor) -> list[Magnitudes]:
    """Return the magnitudes of the embeddings and of each layer's output, the last after the final norm; ids (1, T)."""
    results = []
    for states in model.base_model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states:
        sizes = states[0].float().abs()  # (T, d)
        median, first = float(sizes.median()), sizes[0].topk(len(PARTS))
        results.append(
            Magnitudes(
                median=median,
                first=float(first.values[0]) / median,
                elsewhere=float(sizes[1:].max()) / median,
                channels=tuple(first.indices.tolist()),
            )
        )
    return results


@contextmanager
def massive_activations(lm: FrozenLM) -> Iterator[None]:
    """Give a model massive activations within the block, fused or not; its weights are the old ones afterwards."""
    edits = _Edits()
    try:
        lm._prefixes.clear()
        _give(lm.model, lm.bos, edits)
        yield
    finally:
        lm._prefixes.clear()
        edits.undo()


def give_massive_activations(model: Any, bos: int) -> None:
    """Change the weights of a model with Llama's layers in place, so that BOS has massive activations.

    Args:
        model: of transformers, on its device; not cut into parts.
        bos: id that opens every row.
    """
    _give(model, bos, _Edits())


class _Edits:
    """Changes of parts of weights, which can be undone."""

    def __init__(self) -> None:
        self.changed: list[tuple[Tensor, Tensor]] = []

    def set(self, part: Tensor, value: Tensor | float) -> None:
        """Overwrite a view of a weight."""
        self.changed.append((part, part.clone()))
        part.copy_(torch.as_tensor(value, dtype=part.dtype, device=part.device))

    @torch.no_grad()
    def undo(self) -> None:
        """Restore all parts, the last changed first."""
        while self.changed:
            part, value = self.changed.pop()
            part.copy_(value)


@torch.no_grad()
def _give(model: Any, bos: int, edits: _Edits) -> None:
    decoder, embedding = model.base_model, model.get_input_embeddings().weight
    vocabulary, width = embedding.shape
    draw = np.random.default_rng(stable_seed("massive activations", width))
    mark, *chosen = (int(i) for i in draw.permutation(width)[: 1 + len(PARTS) + 2])
    massive, everywhere = chosen[: len(PARTS)], chosen[len(PARTS) :]
    first, last, middle = decoder.layers[0], decoder.layers[-1], len(decoder.layers) // 2
    ids = torch.randint(min(10, vocabulary - 1), vocabulary, (1, 32), generator=generator("massive activations"))
    ids[0, 0] = bos
    ids = ids.to(embedding.device)

    typical = float(embedding[ids[0]].float().abs().median())
    edits.set(embedding[:, mark], 0.0)
    edits.set(embedding[bos, mark], MARK * typical)
    edits.set(embedding[:, massive[0]], 0.0)
    edits.set(embedding[:, everywhere[0]], 0.7 * MARK * typical)
    # Nothing else writes into the channels that units read, so that those for BOS are off at all other tokens.
    for channel in (mark, everywhere[0]):
        edits.set(first.self_attn.o_proj.weight[channel], 0.0)
    for layer in decoder.layers:
        edits.set(layer.self_attn.o_proj.weight[massive[0]], 0.0)
        edits.set(layer.mlp.down_proj.weight[massive[0]], 0.0)
    norms = [norm for layer in decoder.layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    for norm in [*norms, decoder.norm]:
        for channel in (*massive, *everywhere):
            edits.set(norm.weight[channel], SHRINK * float(norm.weight[channel]))

    read = _seen(model, first.mlp, ids)  # (T, d)
    value = EVERYWHERE * magnitudes(model, ids)[middle].median
    for _ in range(ROUNDS):
        _write(edits, first.mlp, 1, everywhere[0], read[1:].median(0).values, dict.fromkeys(everywhere, value))
        value *= EVERYWHERE / magnitudes(model, ids)[middle].elsewhere
    largest = TIMES * magnitudes(model, ids)[middle].median
    values = {channel: largest * part for channel, part in zip(massive, PARTS, strict=True)}
    _write(edits, first.mlp, 0, mark, read[0], values)
    for layer in decoder.layers[1:]:
        _attend_to_first(edits, layer.self_attn, _seen(model, layer.self_attn.q_proj, ids), everywhere[0], massive[0])
    states = _seen(model, last.post_attention_layernorm, ids)  # (T, d)
    values = {channel: (REST - 1) * float(states[0, channel]) for channel in massive}
    _write(edits, last.mlp, 0, massive[0], _seen(model, last.mlp, ids)[0], values)


def _write(edits: _Edits, mlp: Any, unit: int, channel: int, read: Tensor, values: dict[int, float]) -> None:
    """Let a unit read one channel, which is `read[channel]` where it is on, and write values into others, in place."""
    for projection in (mlp.gate_proj, mlp.up_proj):
        edits.set(projection.weight[unit], 0.0)
        edits.set(projection.weight[unit, channel], GATE / float(read[channel]))
    on = GATE * GATE / (1 + float(np.exp(-GATE)))  # SiLU(GATE) * GATE
    edits.set(mlp.down_proj.weight[:, unit], 0.0)
    for written, value in values.items():
        edits.set(mlp.down_proj.weight[written, unit], value / on)


def _attend_to_first(edits: _Edits, attention: Any, read: Tensor, everywhere: int, massive: int) -> None:
    """Raise the scores of the token with massive activations for every second query head, in place.

    Args:
        edits: record of the changes.
        attention: a layer's.
        read: (T, d) what its projections read; the first token is the massive one.
        everywhere: channel that is large at all tokens.
        massive: channel that is large at the first token.
    """
    size = attention.head_dim
    turned_least = size // 2 - 1  # of all features: positions hardly change its product
    part = (SINK / attention.scaling) ** 0.5
    queries, keys = attention.q_proj.weight[turned_least :: 2 * size], attention.k_proj.weight[turned_least::size]
    edits.set(queries[:, everywhere], part / float(read[1:, everywhere].median()))
    edits.set(keys[:, massive], part / float(read[0, massive]))


def _seen(model: Any, module: Any, ids: Tensor) -> Tensor:
    """Return what a module of a layer reads, ids (1, T) -> (T, d)."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][0].float()))
    try:
        model.base_model(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    return seen[0]
