"""Translators that were not trained, and whose soft tokens nevertheless depend on the question, and these tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.soft_context import SoftContext


def shaken_translator(pair: ModelPair) -> TranslatorModule:
    """Return a translator with seeded noise on all weights: its gates begin at 0, which would hide the source."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        translator = build_translator(pair.spec, pair.source, pair.target)
        for parameter in translator.parameters():
            noise = torch.randn(parameter.shape) * (parameter.shape[-1] if parameter.dim() else 1) ** -0.5
            parameter.data += 0.5 * noise.to(parameter)
    return translator.to(pair.target.device).eval()


class KeepingEvaluator(Evaluator):
    """Keeps the soft tokens of each example."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kept: dict[str, Tensor] = {}

    def soft(self, items: Sequence[Encoded], translator: TranslatorModule) -> SoftContext:
        """Return the soft tokens of some examples, and keep them."""
        made = super().soft(items, translator)
        self.kept |= {item.example.id: tokens.clone() for item, tokens in zip(items, made.tokens, strict=True)}
        return made
