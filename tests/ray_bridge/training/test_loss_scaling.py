"""float16: gradients are scaled, so that small ones are not rounded to 0; a resumed job goes on with the same scale."""

import math
from pathlib import Path

import pytest
import torch

from bridge_common.files import read_log
from ray_bridge.config.presets import tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import recorded, run_job, small_spec
from tests.support.model_pairs import PairFolders


def half_spec(folders: PairFolders, **changes: object) -> JobSpec:
    short = {"steps": 6, "eval_every": 3, "validation_examples": 4, "test_examples": 4, "geometry_projection": False}
    return small_spec(folders, model_dtype="float16", **(short | changes))


def first_gradient(spec: JobSpec, folder: Path, *, scaled: bool, shrink: float = 1.0) -> torch.Tensor:
    """Return the first step's gradient of the answers' likelihood alone, of a loss `shrink` times as large."""
    trainer = Trainer(spec, tiny_run(workers=1), folder, LocalSession(folder), None)
    trainer.terms = [term for term in trainer.terms if term.name == "answer_nll"]
    assert trainer.scaler.is_enabled() == (spec.model_dtype == "float16")
    trainer.scaler._init_scale = (2.0**16 if scaled else 1.0) * shrink
    seen: list[torch.Tensor] = []
    step = trainer.optimiser.step

    def keep(*args: object, **kwargs: object) -> None:
        seen.append(torch.cat([p.grad.flatten() for p in trainer.parameters if p.grad is not None]))
        step(*args, **kwargs)

    trainer.optimiser.step = keep  # type: ignore[method-assign]
    trainer.spec = spec.replace(clip_norm=1e9)
    trainer._train_step()
    return seen[0]


def test_small_gradients_survive_half_precision(folders: PairFolders, tmp_path: Path) -> None:
    spec = half_spec(folders)
    exact = first_gradient(spec.replace(model_dtype="float32"), tmp_path / "exact", scaled=False)
    errors = {}
    # The gradients of this tiny pair are large; a scale of 2^-12 makes them as small as a large pair's.
    for scaled, shrink in ((True, 1.0), (False, 2.0**-12)):
        half = first_gradient(spec, tmp_path / str(scaled), scaled=scaled, shrink=shrink)
        errors[scaled] = float((half - exact).norm() / exact.norm())
    assert errors[True] < 0.02
    assert errors[False] > 5 * errors[True]


def test_a_resumed_job_in_half_precision_is_the_same(folders: PairFolders, tmp_path: Path) -> None:
    spec = half_spec(folders)
    run_job(spec, tmp_path / "whole")
    trainer = Trainer(
        spec, tiny_run(workers=1, checkpoint_every=2), tmp_path / "parts", LocalSession(tmp_path / "parts"), None
    )
    trainer.scaler._init_scale, ordinary = 2.0**40, trainer._train_step

    def stop_after_four() -> None:
        if trainer.step == 4:
            raise KeyboardInterrupt
        ordinary()

    trainer._train_step = stop_after_four  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    folder = tmp_path / "parts"
    resumed = Trainer(spec, tiny_run(workers=1, checkpoint_every=2), folder, LocalSession(folder), None)
    resumed._resume()
    assert resumed.step == 4
    assert resumed.scaler.state_dict() == trainer.scaler.state_dict()
    assert resumed.scaler.get_scale() < 2.0**40


def test_steps_whose_gradients_overflow_are_skipped_and_recorded(folders: PairFolders, tmp_path: Path) -> None:
    spec = half_spec(folders, steps=3)
    trainer = Trainer(spec, tiny_run(workers=1), tmp_path, LocalSession(tmp_path), None)
    trainer.scaler._init_scale = 2.0**40
    before = {name: value.clone() for name, value in trainer.translator.state_dict().items()}
    trainer._train_step()
    after = trainer.translator.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert trainer.scaler.get_scale() == 2.0**39
    [event] = [e for e in read_log(tmp_path / "events.jsonl") if e.get("step") == 1]
    assert event["values"]["loss_scale"] == 2.0**39
    assert "grad_norm" not in event["values"]
    assert math.isfinite(event["values"]["loss/total"])


def test_a_job_in_half_precision_runs_twice_alike(folders: PairFolders, tmp_path: Path) -> None:
    spec = half_spec(folders, steps=3)
    assert run_job(spec, tmp_path / "a")["steps"] == 3
    run_job(spec, tmp_path / "b", checkpoint_every=1)
    assert recorded(tmp_path / "a") == recorded(tmp_path / "b")


def test_other_dtypes_are_not_scaled(spec: JobSpec, finished: Path) -> None:
    assert spec.model_dtype == "float32"
    events = [e["values"] for e in read_log(finished / "events.jsonl") if e["kind"] == "metrics"]
    assert not any("loss_scale" in values for values in events)
