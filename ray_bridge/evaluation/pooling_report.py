"""Report on attention pooling: entropy of its weights, their mass on the question, and a heat map of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bridge_common.files import write_bytes
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.evaluation.attention_metrics import entropies, shares_by_head
from ray_bridge.evaluation.heat_maps import Panel, heat_maps
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import SourceBatch
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
        (1 unless pads get weight). Besides, pooling/entropy_share/headN of each head, numbered from 1.
    """
    by_head = shares_by_head(weights, mask)  # (h,)
    mass = (weights * mask[:, None]).sum(-1)  # (B, h)
    return {
        "pooling/entropy": float(entropies(weights).mean()),
        "pooling/entropy_share": float(by_head.mean()),
        "pooling/question_mass": float(mass.mean()),
        **{f"pooling/entropy_share/head{i}": float(share) for i, share in enumerate(by_head, start=1)},
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
    if not translator.pools_by_attention:
        return {}
    items, source = read_examples(pair, translator, examples)
    pooled = translator.pooling_weights(source)
    assert pooled is not None
    weights, mask = (part.cpu() for part in pooled)  # (B, h, S), (B, S)
    panels = []
    for i, item in enumerate(items[:PICTURED]):
        own = weights[i, :, : int(mask[i].sum())]  # (h, tokens)
        share = float(shares_by_head(own[None], mask[i : i + 1, : own.shape[1]]).mean())
        title = f"{item.example.id}: entropy {share:.1%} of that of equal weights"
        panels.append(Panel(title=title, rows="head", tokens=token_texts(pair, item), weights=own))
    write_bytes(picture, heat_maps(panels))
    return pooling_metrics(weights, mask)


def read_examples(
    pair: ModelPair, translator: TranslatorModule, examples: Sequence[Example]
) -> tuple[list[Encoded], SourceBatch]:
    """Return the first examples, and the source's states of them in the translator's dtype.

    Raises:
        UserError: if the source has no such layer.
    """
    items = list(pair.encoder(examples[:EXAMPLES]))
    source = pair.read_source(items)
    states = source.states.to(next(translator.parameters()).dtype)
    return items, SourceBatch(states=states, mask=source.mask, items=items)


def token_texts(pair: ModelPair, item: Encoded) -> list[str]:
    """Decode the question's tokens one by one, the target's under geometry_projection, else the source's.

    Under latent_steps the bridge reads no tokens, and the steps are numbered.
    """
    if pair.spec.latent_steps:
        return [f"thought {i}" for i in range(1, pair.spec.latent_steps + 1)]
    if item.alignment is None:
        ids, tokenizer = item.source_ids[slice(*item.question_span)], pair.source.tokenizer
    else:
        ids = tuple(item.text_row.prompt[1 + i] for i in item.alignment.tokens.tolist())
        tokenizer = pair.target.tokenizer
    return [tokenizer.decode([i]) for i in ids]
