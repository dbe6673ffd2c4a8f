"""Report on attention pooling: entropy of its weights, their mass on the question, and a heat map of them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bridge_common.files import write_bytes
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import SourceBatch, read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.task import Example

EXAMPLES = 32
"""Examples over which the metrics are computed."""
PICTURED = 4
"""Examples in the heat map."""


def pooling_metrics(weights: Tensor, mask: Tensor) -> dict[str, float]:
    """Measure how spread out pooling weights are, and whether they lie on the question.

    Args:
        weights: (B, heads, S), each head's distribution over tokens.
        mask: (B, S), 1 on the question's tokens.

    Returns:
        Means over rows and heads: pooling/entropy, in nats; pooling/entropy_share, the entropy as a share of that of
        equal weights (1 is mean pooling, 0 a single token); pooling/question_mass, the weight on the question's tokens
        (1 unless pads get weight).
    """
    entropy = torch.special.entr(weights).sum(-1)  # (B, h)
    uniform_entropy = mask.sum(1, keepdim=True).clamp(min=2).to(weights).log()  # (B, 1)
    mass = (weights * mask[:, None]).sum(-1)  # (B, h)
    return {
        "pooling/entropy": float(entropy.mean()),
        "pooling/entropy_share": float((entropy / uniform_entropy).mean()),
        "pooling/question_mass": float(mass.mean()),
    }


@torch.no_grad()
def pooling_report(
    pair: ModelPair, translator: TranslatorModule, examples: Sequence[Example], picture: Path
) -> dict[str, float]:
    """Compute metrics of attention pooling over the first examples, and draw a heat map of a few of them.

    Args:
        pair: the models that read the examples, in evaluation's arithmetic.
        translator: whose bridge may pool by attention.
        examples: the evaluated split.
        picture: where the PNG is written.

    Returns:
        See `pooling_metrics`; empty, and nothing drawn, if the bridge does not pool by attention.

    Raises:
        UserError: if the source has no such layer.
    """
    items = pair.encoder(examples[:EXAMPLES])
    source = read_source(pair.source, items, pair.spec.source_layer)
    dtype = next(translator.parameters()).dtype
    pooled = translator.pooling_weights(SourceBatch(states=source.states.to(dtype), mask=source.mask, items=items))
    if pooled is None:
        return {}
    weights, mask = (part.cpu() for part in pooled)  # (B, h, S), (B, S)
    rows = [
        (f"{item.example.id}", token_texts(pair, item), row[:, : int(mask[i].sum())])
        for i, (item, row) in enumerate(zip(items[:PICTURED], weights, strict=False))
    ]
    write_bytes(picture, heat_map(rows))
    return pooling_metrics(weights, mask)


def token_texts(pair: ModelPair, item: Encoded) -> list[str]:
    """Decode the question's tokens one by one: the target's under geometry_projection, else the source's."""
    if item.alignment is None:
        ids, tokenizer = item.source_ids[slice(*item.question_span)], pair.source.tokenizer
    else:
        ids = tuple(item.text_row.prompt[1 + i] for i in item.alignment.tokens.tolist())
        tokenizer = pair.target.tokenizer
    return [tokenizer.decode([i]) for i in ids]


def heat_map(rows: Sequence[tuple[str, Sequence[str], Tensor]]) -> bytes:
    """Draw a PNG with one panel a row, given its name, its tokens and their weights (heads, tokens)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    longest = max(len(tokens) for _, tokens, _ in rows)
    figure = Figure(figsize=(max(4.0, 0.16 * longest), 1.9 * len(rows)), dpi=110, layout="constrained")
    panels: Any = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for panel, (name, tokens, weights) in zip(panels, rows, strict=True):
        image = panel.imshow(weights.float().numpy(), aspect="auto", cmap="viridis", vmin=0)
        panel.set_xticks(range(len(tokens)), [_label(token) for token in tokens], rotation=90, fontsize=6)
        panel.set_yticks([])
        panel.set_ylabel("heads", fontsize=7)
        panel.set_title(name, fontsize=7, loc="left")
        figure.colorbar(image, ax=panel, pad=0.01).ax.tick_params(labelsize=6)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _label(token: str) -> str:
    printable = "".join(c if ord(c) < 0x3000 else "▯" for c in token)  # the default font has no glyphs above
    return printable.replace("\n", "↵").replace("$", r"\$").strip() or "␣"
