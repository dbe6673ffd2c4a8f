"""Translators that were not trained, and whose soft tokens nevertheless depend on the question."""

import torch

from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.model_pair import ModelPair


def shaken_translator(pair: ModelPair) -> TranslatorModule:
    """Return a translator with seeded noise on all weights: its gates begin at 0, which would hide the source."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        translator = build_translator(pair.spec, pair.source, pair.target)
        for parameter in translator.parameters():
            noise = torch.randn(parameter.shape) * (parameter.shape[-1] if parameter.dim() else 1) ** -0.5
            parameter.data += 0.5 * noise.to(parameter)
    return translator.to(pair.target.device).eval()
