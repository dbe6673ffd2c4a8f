"""The linear rival: its sums, its ridge regression, the choice of its strength, and its fit in a job."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.files import read_json, read_log
from ray_bridge.bridges.linear import LinearBridge, resample_rows
from ray_bridge.bridges.slot_regression import SlotSums, ridge
from ray_bridge.bridges.translator import build_translator
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.inputs.resample import resample
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.inputs.text_slots import teacher_slots
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.splits import load_splits
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_rows_are_resampled_as_texts_are() -> None:
    states, mask = drawn(3, 7, 5), torch.zeros(3, 7, dtype=torch.long)
    for row, length in enumerate((7, 1, 4)):
        mask[row, :length] = 1
    expected = torch.stack([resample(row[: int(m.sum())], 6) for row, m in zip(states, mask, strict=True)])
    torch.testing.assert_close(resample_rows(states, mask, 6), expected)


def test_ridge_is_the_regression_of_centred_slots() -> None:
    x, noise = drawn(40, 3, 5), drawn(40, 3, 4, seed=1)
    y = x @ drawn(5, 4, seed=2) + drawn(3, 4, seed=3) + 0.3 * noise  # each slot has a mean of its own
    weight, bias = ridge(SlotSums.of(x, y), 0.5)
    xc, yc = (v - v.mean(0) for v in (x, y))
    rows, values = xc.flatten(0, 1), yc.flatten(0, 1)
    penalty = 0.5 * (rows.T @ rows).diagonal().mean() * torch.eye(5, dtype=x.dtype)
    expected = torch.linalg.inv(rows.T @ rows + penalty) @ rows.T @ values
    torch.testing.assert_close(weight, expected)
    torch.testing.assert_close(bias, y.mean(0) - x.mean(0) @ expected)
    others = drawn(20, 3, 5, seed=4), drawn(20, 3, 4, seed=5)
    predicted = others[0] @ weight + bias
    left = (others[1] - predicted).pow(2).sum() / (others[1] - others[1].mean(0)).pow(2).sum()
    assert SlotSums.of(*others).explained(weight, bias) == pytest.approx(1 - float(left))


def test_sums_add_up_over_batches() -> None:
    x, y = drawn(10, 3, 5), drawn(10, 3, 4, seed=1)
    total = SlotSums.of(x[:4], y[:4])
    total.add_(SlotSums.of(x[4:], y[4:]))
    for ours, whole in zip(total.tensors(), SlotSums.of(x, y).tensors(), strict=True):
        torch.testing.assert_close(ours, whole)


@pytest.mark.parametrize("noisy", [True, False])
def test_held_out_prompts_choose_the_strength(noisy: bool) -> None:
    """With few noisy prompts a strong ridge predicts others better, with exact data a weak one."""
    bridge = LinearBridge(source_size=12, target_size=4, target_rms=0.5, soft_tokens=2).double()
    states, mask = drawn(30, 6, 12), torch.ones(30, 6, dtype=torch.long)
    data = bridge.slots(states, mask) @ drawn(12, 4, seed=2)
    data = 0.05 * data + drawn(30, 2, 4, seed=3) if noisy else data
    parts = [bridge.sums(states[rows], mask[rows], data[rows]) for rows in (slice(0, 10), slice(10, 30))]
    metrics = bridge.regress(*parts)
    assert (metrics["linear/ridge"] >= 1) == noisy
    assert (metrics["linear/held_out_r2"] > 0.99) == (not noisy)
    weight, _ = ridge(bridge.sums(states, mask, data), metrics["linear/ridge"])
    torch.testing.assert_close(bridge.weight, weight, msg="the final map is fitted on all prompts")
    z = bridge(states, mask, data)
    torch.testing.assert_close(z.pow(2).mean(-1).sqrt(), torch.full((30, 2), 0.5, dtype=z.dtype))
    if not noisy:  # direction of the teacher's text, size of the target's embeddings
        torch.testing.assert_close(z, data * (0.5 / data.pow(2).mean(-1, keepdim=True).sqrt()), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["question", "answer"])
def test_a_job_fits_it_on_all_prompts_and_trains_nothing(folders: PairFolders, tmp_path: Path, teacher: str) -> None:
    spec = small_spec(folders, bridge="linear", steps=0, flow_teacher=teacher, train_examples=330, test_examples=4)
    result = run_job(spec, tmp_path)
    assert result is not None
    values = [event["values"] for event in read_log(tmp_path / "events.jsonl") if event["kind"] == "metrics"]
    metrics = {name: value for row in values for name, value in row.items()}
    assert metrics["linear/prompts"] == 330
    assert (0 if teacher == "question" else -0.5) < metrics["linear/held_out_r2"] < 1
    assert read_json(tmp_path / "selected" / "selected.json")["step"] == 0
    assert result["metrics"]["cost/bridge_parameters"] > spec.soft_tokens * 32


def test_the_fit_predicts_the_teachers_text_of_the_spec(folders: PairFolders) -> None:
    """Fitted on a few prompts, the map comes closer to the teacher that the spec names than to the other."""
    spec = small_spec(folders, bridge="linear", steps=0, geometry_projection=False, train_examples=8)
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    items = pair.encoder(splits.train)
    source = read_source(pair.source, items, spec.source_layer)
    for teacher in ("question", "answer"):
        own = spec.replace(flow_teacher=teacher)
        translator = build_translator(own, pair.source, pair.target)
        translator.fit_regression([source], lambda batch, own=own: teacher_slots(own, pair.target, batch), Worker())
        z = translator(source, torch.zeros(8, 4, 32)).flatten(0, 1)  # (B * K, d_t)
        near = {}
        for name in ("question", "answer"):
            data = teacher_slots(spec.replace(flow_teacher=name), pair.target, items).flatten(0, 1)  # (B * K, d_t)
            near[name] = float(torch.cosine_similarity(z, data).mean())
        assert max(near, key=lambda name: near[name]) == teacher, near


def test_it_refuses_training_and_no_teacher() -> None:
    for changes in ({"steps": 5}, {"steps": 0, "flow_teacher": "none"}):
        with pytest.raises(UserError, match="bridge linear is fitted to flow_teacher's text, not trained: set steps=0"):
            tiny(bridge="linear", **changes)
