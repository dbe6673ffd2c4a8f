"""Small pairs with a translator whose injection writes into the target's cache of keys and values."""

from __future__ import annotations

from typing import Any

import torch

from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.model_pair import ModelPair
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.splits import Splits, load_splits
from tests.support.model_pairs import PairFolders

SIZES: dict[str, Any] = {
    "soft_tokens": 3,
    "hidden_size": 16,
    "num_heads": 2,
    "depth": 1,
    "max_new_tokens": 5,
    "train_examples": 6,
    "validation_examples": 2,
    "test_examples": 5,
    "decode_aware": False,
}


def bench(folders: PairFolders, **changes: Any) -> tuple[ModelPair, Splits, TranslatorModule]:
    """Return a pair, its data and a translator as after some training, all in float64."""
    spec = tiny(**{"source": folders.source, "target": folders.target, **SIZES, **changes})
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu")).for_evaluation()
    translator = build_translator(spec, pair.source, pair.target).double()
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in translator.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype))
    return pair, splits, translator


def step_of(pair: ModelPair, splits: Splits, translator: TranslatorModule, count: int = 6) -> StepContext:
    """Return a training step of the first training examples."""
    source = pair.read_source(pair.encoder(splits.train[:count]))
    return StepContext(pair.spec, pair.target, translator, source, StepKey(seed=0, step=0), Worker())
