"""Report on the cross-attention of slots to the source's tokens: entropy by block and head, and heat maps."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bridge_common.files import write_bytes
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.evaluation.attention_metrics import entropies, shares_by_head
from ray_bridge.evaluation.heat_maps import Panel, heat_maps
from ray_bridge.evaluation.pooling_report import read_examples, token_texts
from ray_bridge.model_pair import ModelPair
from ray_bridge.noise import normal
from ray_bridge.tasks.task import Example

MOST_BLOCKS = 8  # in the picture


def cross_metrics(weights: Sequence[Tensor], mask: Tensor) -> dict[str, float]:
    """Measure how spread out the weights of cross-attention are.

    Args:
        weights: of each block, (B, heads, K, S).
        mask: (B, S), 1 on tokens that may be read.

    Returns:
        cross/entropy, in nats, and cross/entropy_share, the entropy of a slot's weights as a share of that of equal
        ones, both means over blocks, rows, heads and slots; and cross/entropy_share/blockM_headN, numbered from 1.
    """
    shares = torch.stack([shares_by_head(block, mask) for block in weights])  # (blocks, h)
    return {
        "cross/entropy": float(torch.stack([entropies(block).mean() for block in weights]).mean()),
        "cross/entropy_share": float(shares.mean()),
        **{
            f"cross/entropy_share/block{i}_head{j}": float(share)
            for i, block in enumerate(shares, start=1)
            for j, share in enumerate(block, start=1)
        },
    }


@torch.no_grad()
def cross_attention_report(
    pair: ModelPair, translator: TranslatorModule, examples: Sequence[Example], picture: Path | None
) -> dict[str, float]:
    """Compute metrics of cross-attention over the first examples, and draw heat maps of the first one.

    A block has two heat maps: of its heads, averaged over slots, and of its slots, averaged over heads.

    Args:
        pair: the models that read the examples, in evaluation's arithmetic.
        translator: whose bridge may attend to the source's tokens.
        examples: the evaluated split.
        picture: where the PNG is written, None to draw nothing.

    Returns:
        See `cross_metrics`; empty, and nothing drawn, if the bridge has no cross-attention.

    Raises:
        UserError: if the source has no such layer.
    """
    if not translator.attends_across:
        return {}
    items, source = read_examples(pair, translator, examples)
    keys = [("evaluation", pair.spec.noise_seed, item.example.id) for item in items]
    noise = normal((pair.spec.soft_tokens, pair.target.hidden_size), keys).to(source.states)  # (B, K, d_t)
    found, mask = translator.cross_weights(source, noise)
    weights, mask = [block.cpu() for block in found], mask.cpu()  # (B, h, K, S), (B, S)
    if picture is not None:
        count = int(mask[0].sum())
        panels = []
        for number, block in enumerate(weights[:MOST_BLOCKS], start=1):
            own = block[0, :, :, :count]  # (h, K, tokens)
            for rows, over, axis in (("head", "slots", 1), ("slot", "heads", 0)):
                panels.append(
                    Panel(
                        title=f"{items[0].example.id}, block {number}, mean over {over}",
                        rows=rows,
                        tokens=token_texts(pair, items[0]),
                        weights=own.mean(axis),
                    )
                )
        write_bytes(picture, heat_maps(panels, columns=2))
    return cross_metrics(weights, mask)
