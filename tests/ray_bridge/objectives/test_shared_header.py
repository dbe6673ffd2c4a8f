"""The objective is the same number with the same gradient whether the header is read once or in every row."""

from pathlib import Path

import pytest
import torch

from ray_bridge.bridges.translator import build_translator
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.inputs import rows
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.objectives import chunked_vocabulary
from ray_bridge.objectives.chunked_vocabulary import sum_in_chunks
from ray_bridge.objectives.forward_passes import ForwardPasses
from ray_bridge.objectives.objective import backward, objective_terms
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.splits import load_splits
from tests.support.model_pairs import make_pair

SMALL = {"soft_tokens": 4, "hidden_size": 16, "num_heads": 2, "depth": 1, "train_examples": 8, "test_examples": 4}


class Wide(StepContext):
    """A step in fp64 throughout."""

    def noise(self, purpose: str) -> torch.Tensor:
        return super().noise(purpose).double()

    def times(self) -> torch.Tensor:
        return super().times().double()


@pytest.mark.parametrize("kl_alignment", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("position", ["first", "before_question"])
@pytest.mark.parametrize("arches", [("mistral", "llama"), ("qwen2", "gpt_neox")])
def test_reading_the_header_once_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arches: tuple[str, str], position: str, kl_alignment: bool
) -> None:
    folders = make_pair(tmp_path, *arches)  # type: ignore[arg-type]
    spec = tiny(
        **{**SMALL, "source": folders.source, "target": folders.target, "num_fewshot": 2, "validation_examples": 4},
        soft_position=position,
        kl_alignment=kl_alignment,
        contrast_weight=0.0,
        decode_aware=False,
    )
    splits = load_splits(spec)
    results = {}
    for way in ("once", "in every row", "once, fused", "once, fused, padded"):
        pair = ModelPair.load(spec, splits, torch.device("cpu"))
        for lm in (pair.source, pair.target):
            lm.model.double()
            if "fused" in way:
                lm.fuse()
        monkeypatch.setattr(rows, "MIN_HEADER", 1 << 30 if way == "in every row" else 16)
        translator = build_translator(spec, pair.source, pair.target).double()
        parameters = [p for p in translator.parameters() if p.requires_grad]
        items = pair.encoder(splits.train[:3])
        source = read_source(pair.source, items, spec.source_layer)
        passes = ForwardPasses(translator, pair.target, graphed="padded" in way)
        step = Wide(spec, pair.target, translator, source, StepKey(seed=0, step=0), Worker(), passes)
        losses = backward(step, objective_terms(spec), parameters)
        assert (step.student_hidden.shape[1] % 32 == 0) == ("padded" in way and pair.target.body is not None)
        shared = step.student.prefix is not None
        assert shared == (position == "before_question" and way != "in every row")
        results[way] = (losses.terms, torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    full_terms, full_gradient = results["in every row"]
    # Norms of fused layers round to fp32 elsewhere.
    for way, tolerance in (("once", 1e-9), ("once, fused", 1e-5), ("once, fused, padded", 1e-5)):
        terms, gradient = results[way]
        for name, value in full_terms.items():
            assert terms[name] == pytest.approx(value, rel=1e-6, abs=1e-6)
        assert torch.allclose(gradient, full_gradient, rtol=1e-5, atol=max(tolerance, 1e-8))


def test_a_sum_in_chunks_is_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_vocabulary, "CHUNK", 3)
    x = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(10, dtype=torch.float64)
    sizes = []

    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sizes.append(len(a))
        return (a.exp().sum(-1) * b).sum()

    total = sum_in_chunks(function, x, y)
    assert sizes == [2, 3, 2, 3]
    (gradient,) = torch.autograd.grad(total, x, retain_graph=True)
    (again,) = torch.autograd.grad(total, x)
    assert torch.allclose(total, (x.exp().sum(-1) * y).sum())
    assert torch.allclose(gradient, x.exp() * y[:, None])
    assert torch.equal(gradient, again)
    with torch.no_grad():
        assert torch.allclose(sum_in_chunks(function, x, y), total)
