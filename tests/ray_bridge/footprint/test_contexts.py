"""The estimate of memory beside counted bytes, with the prompt beside the soft tokens and without it."""

from typing import Any

import pytest
import torch

from ray_bridge.bridges.translator import build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import preset
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.footprint.estimate import estimate_memory
from ray_bridge.footprint.model_shape import read_shape
from ray_bridge.inputs.text_lengths import text_lengths
from ray_bridge.model_pair import ModelPair
from ray_bridge.objectives.objective import backward, objective_terms
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.splits import load_splits
from tests.support.live_bytes import LiveBytes

pytestmark = pytest.mark.slow
SIZES: dict[str, Any] = {"train_examples": 64, "validation_examples": 4, "test_examples": 8, "max_new_tokens": 96}


@pytest.mark.parametrize(("tokens", "layout"), [(8, "soft_plus_text"), (8, "soft_only"), (64, "soft_only")])
def test_steps_and_evaluations_take_what_is_estimated(tokens: int, layout: str) -> None:
    changes = {**SIZES, "soft_tokens": tokens, "layout": layout}
    spec, run = preset("tiny", changes, {"workers": 1, "autocast": False, "eval_batch_size": 8})
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    source, target = read_shape(spec.source), read_shape(spec.target)
    read, own = text_lengths(spec)
    assert source is not None
    assert target is not None
    assert read is not None
    assert own is not None
    passing = estimate_memory(spec, run, source, target, (read, own)).passing
    translator = build_translator(spec, pair.source, pair.target)
    longest = sorted(pair.encoder(splits.train), key=lambda item: -len(item.row.prompt))[: spec.batch_size]
    step = StepContext(spec, pair.target, translator, pair.read_source(longest), StepKey(seed=0, step=0), Worker())
    with LiveBytes() as live:
        backward(step, objective_terms(spec), list(translator.parameters()))
    assert passing["a training step"] == pytest.approx(live.peak, rel=0.2)
    evaluator = Evaluator(pair.for_evaluation(), Worker(), run.eval_batch_size, NodeCache(None))
    written = [{"text": " and".join(["one"] * 24) + ".", "tokens": 96, "truncated": True}] * len(splits.test)
    with LiveBytes() as live:
        evaluator.outputs("text_bridge", splits.test, None, written)
    assert 0.4 * passing["an evaluation"] < live.peak <= passing["an evaluation"]
