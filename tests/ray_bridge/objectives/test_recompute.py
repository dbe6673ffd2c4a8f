"""Layers that run again in the backward pass change no bit of the training, and keep a fraction of the memory."""

from pathlib import Path

import pytest
import torch

from bridge_common.files import read_log
from ray_bridge.config.presets import tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import recorded, run_job


def gradient(spec: JobSpec, folder: Path, above: int | None, *, fused: bool) -> tuple[torch.Tensor, int]:
    """Return the first step's gradient and the bytes that its forward pass kept for the backward pass."""
    trainer = Trainer(spec, tiny_run(workers=1), folder, LocalSession(folder), None)
    trainer.passes.recompute_above = above
    if fused:
        assert trainer.pair.target.fuse().body is not None
    # The storages themselves are held: an address that is freed and given again would count two of them as one.
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        trainer._train_step()
    weights = torch.cat([value.flatten() for value in trainer.translator.state_dict().values()])
    own = {p.untyped_storage().data_ptr() for p in trainer.pair.target.model.parameters()}
    return weights, sum(storage.nbytes() for place, storage in kept.items() if place not in own)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("position", ["first", "before_question"])
def test_recomputing_changes_no_bit_of_a_step(spec: JobSpec, tmp_path: Path, position: str, fused: bool) -> None:
    spec = spec.replace(num_fewshot=2, soft_position=position)
    whole, much = gradient(spec, tmp_path / "whole", None, fused=fused)
    again, little = gradient(spec, tmp_path / "again", 0, fused=fused)
    assert torch.equal(whole, again)
    # What the bridge keeps is in both; with the header cached, the target's own part is small.
    assert little < (0.5 if position == "first" else 0.65) * much


def test_a_whole_job_is_the_same_bytes(spec: JobSpec, finished: Path, tmp_path: Path) -> None:
    run_job(spec, tmp_path, recompute_tokens=0)
    assert recorded(tmp_path) == recorded(finished)
    assert read_log(tmp_path / "events.jsonl")


def test_only_passes_above_the_budget_run_again(spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(spec, tiny_run(workers=1, recompute_tokens=400), tmp_path, LocalSession(tmp_path), None)
    seen: list[tuple[int, bool]] = []
    ordinary = FrozenLM.hidden

    def hidden(self: FrozenLM, embeds: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.append((embeds.shape[0] * embeds.shape[1], bool(kwargs["recompute"])))
        return ordinary(self, embeds, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(FrozenLM, "hidden", hidden)
    for _ in range(8):
        trainer._train_step()
    assert {again for _, again in seen} == {True, False}
    assert all(again == (positions > 400) for positions, again in seen)
