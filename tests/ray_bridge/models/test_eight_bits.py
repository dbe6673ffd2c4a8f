"""A frozen target whose weights have 8 bits: gradients reach its inputs, and jobs train and are loaded with it."""

import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge_common.errors import UserError
from ray_bridge import Translator, fingerprint
from ray_bridge.config.presets import paper, paper_run, tiny
from ray_bridge.footprint.estimate import resident_bytes
from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.models.eight_bits import has_eight_bits, round_layers, values_of
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.fused_layers import why_not_fused
from ray_bridge.models.identity import identify
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.model_pairs import PairFolders

NAME = "embedded:target"


def outputs(lm: FrozenLM, embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities of a text and their gradient with respect to its embeddings."""
    soft = embeds.clone().requires_grad_()
    mask = torch.ones(soft.shape[:2], dtype=torch.long)
    positions = torch.arange(soft.shape[1]).expand(soft.shape[:2])
    logits = lm.logits(lm.hidden(soft, mask, positions)).log_softmax(-1)
    (gradient,) = torch.autograd.grad(logits[..., 7].sum(), soft)
    return logits.detach(), gradient


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_gradients_reach_the_inputs_as_through_the_rounded_values() -> None:
    pytest.importorskip("torchao")
    full, rounded = FrozenLM.load(NAME), FrozenLM.load(NAME, precision="int8")
    assert has_eight_bits(rounded.model)
    assert not has_eight_bits(full.model)
    assert why_not_fused(rounded.model) == "its weights have 8 bits"
    same = copy.deepcopy(full.model)
    values = dict(rounded.model.named_parameters())
    for name, parameter in same.named_parameters():
        parameter.data = values_of(values[name]).detach().clone()
    written_out = FrozenLM(same, full.tokenizer, "values")
    embeds = full.embed(torch.tensor([[5, 90, 33, 7, 250, 12], [8, 8, 100, 41, 3, 60]])).detach()
    of_rounded, of_values, of_full = (outputs(lm, embeds) for lm in (rounded, written_out, full))
    for mine, expected, exact in zip(of_rounded, of_values, of_full, strict=True):
        assert relative(mine, expected) < 1e-5
        assert 1e-5 < relative(mine, exact) < 0.1
    held = sum(p.qdata.nbytes + p.scale.nbytes for p in rounded.layers.parameters() if hasattr(p, "qdata"))
    assert held < 0.3 * sum(p.nbytes for p in full.layers.parameters())
    assert identify(rounded.model, rounded.tokenizer) == identify(same, full.tokenizer)
    assert identify(rounded.model, rounded.tokenizer) != identify(full.model, full.tokenizer)


def kept_bytes(lm: FrozenLM, embeds: torch.Tensor) -> int:
    """Return the bytes that a forward pass keeps for its backward pass besides what the model holds."""
    parts = [t for p in lm.model.parameters() for t in ([p.qdata, p.scale] if hasattr(p, "qdata") else [p])]
    held = {part.untyped_storage().data_ptr() for part in parts}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs(lm, embeds)
    return sum(kept.values())


def test_no_weights_in_full_wait_for_the_backward_pass() -> None:
    pytest.importorskip("torchao")
    full, rounded = (FrozenLM.load(NAME, dtype="bfloat16", precision=p) for p in ("full", "int8"))  # type: ignore[arg-type]
    embeds = full.embed(torch.tensor([[5, 90, 33, 7]])).detach()
    assert kept_bytes(rounded, embeds) <= kept_bytes(full, embeds)


def test_sums_that_float16_holds_do_not_overflow() -> None:
    pytest.importorskip("torchao")
    layer = torch.nn.Sequential(torch.nn.Linear(64, 8)).half().requires_grad_(False)
    layer[0].weight.fill_(0.1)
    x = torch.full((1, 64), 100.0, dtype=torch.half)
    whole = layer(x)
    round_layers([layer], x.device)
    torch.testing.assert_close(layer(x), whole, rtol=1e-2, atol=0)  # 0.1 is rounded by 0.4 %


@pytest.mark.slow
def test_a_job_trains_and_its_translator_answers_as_recorded(folders: PairFolders, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    changes: dict[str, Any] = {"eval_dtype": "as_trained", "test_examples": 4, "steps": 4, "eval_every": 2}
    trials = {
        precision: finish_trial(small_spec(folders, **changes, target_precision=precision), tmp_path / precision)
        for precision in ("full", "int8")
    }
    translator = Translator.load(trials["int8"])
    assert has_eight_bits(translator.pair.target.model)
    assert not has_eight_bits(translator.pair.source.model)
    rows = translator.saved.samples
    assert [a.text for a in translator.generate([str(r["question"]) for r in rows])] == [
        r["bridged_output"] for r in rows
    ]
    whole = Translator.load(trials["full"]).pair
    assert translator.pair.digest_of(translator.pair.target) == f"{whole.digest_of(whole.target)}@int8"
    assert translator.pair.digest_of(translator.pair.source) == whole.digest_of(whole.source)


def test_what_does_not_go_with_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="eval_dtype=as_trained"):
        tiny(target_precision="int8")
    with pytest.raises(UserError, match="needs target_shards=1"):
        paper(target_precision="int8", target_shards=2)
    FrozenLM.load(NAME)  # transformers imports torchao where it is installed
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(UserError, match=r"needs torchao: pip install 'ray-bridge\[int8\]'"):
        FrozenLM.load(NAME, precision="int8")


def test_it_is_another_experiment_and_half_of_the_memory() -> None:
    assert fingerprint(paper(target_precision="int8")) != fingerprint(paper())
    shape = ModelShape(
        name="llama", kind="llama", parameters=0, vocabulary=128_256, hidden=8192, layers=80, heads=64, kv_heads=8,
        head_dim=128, intermediate=28_672, context=131_072,
    )  # fmt: skip
    shape = replace(shape, parameters=shape.computed_parameters(tied=False))
    held = [
        resident_bytes(paper(target_precision=precision), shape, shape, gpu=paper_run().use_gpu)["target"]
        for precision in ("full", "int8")
    ]
    assert held == [pytest.approx(141e9, rel=0.01), pytest.approx(72.7e9, rel=0.01)]
