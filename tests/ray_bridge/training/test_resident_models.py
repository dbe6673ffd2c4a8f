"""Models that stay loaded between a process's jobs: every job has the numbers of one that loads them for itself."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bridge_common.files import read_json
from ray_bridge.config.presets import tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import load_splits
from ray_bridge.training.resident_models import ResidentModels
from ray_bridge.training.resident_session import ResidentSession
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import recorded, small_spec
from tests.support.model_pairs import PairFolders

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "decode-aware": {"decode_aware": True, "decode_questions": 2, "decode_samples": 2, "eval_dtype": "float64"},
    "unaligned": {"kl_alignment": False, "geometry_projection": False},
    "adapter": {"injection": "adapter"},
    "kv_prefix": {"injection": "kv_prefix"},
    "c2c": {"bridge": "c2c", "injection": "c2c", "geometry_projection": False},
    "latent": {"latent_steps": 2, "geometry_projection": False},
    "other-layer": {"source_layer": 1, "num_fewshot": 2},
    "swap": {},
    "full-again": {},
}


def run(spec: JobSpec, folder: Path, models: ResidentModels | None) -> dict[str, Any]:
    torch.set_num_threads(1)
    done = Trainer(spec, tiny_run(workers=1), folder, LocalSession(folder), folder / "cache", models=models).run()
    assert done is not None
    return done


@pytest.fixture(scope="module")
def specs(folders: PairFolders) -> dict[str, JobSpec]:
    specs = {name: small_spec(folders, steps=4, eval_every=2, **changes) for name, changes in VARIANTS.items()}
    specs["swap"] = specs["swap"].replace(source=folders.target, target=folders.source)
    return specs


def test_each_job_after_others_has_the_numbers_of_a_process_of_its_own(
    specs: dict[str, JobSpec], tmp_path: Path
) -> None:
    models, loaded = ResidentModels(), []
    for name, spec in specs.items():
        alone, after = tmp_path / "alone" / name, tmp_path / "after" / name
        metrics = run(spec, alone, None)["metrics"]
        loaded.append(models.may_hold(spec))
        assert run(spec, after, models)["metrics"] == metrics, name
        assert recorded(after) == recorded(alone), name
        identities = [read_json(folder / "selected" / "selected.json")["models"] for folder in (alone, after)]
        assert identities[0] == identities[1], name
    assert loaded == [False, *[True] * 7, False, False]  # but the swap and what follows it


def test_the_models_are_loaded_once_for_jobs_that_share_them(
    specs: dict[str, JobSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, load = [], FrozenLM.load

    def counted(name: str, **options: Any) -> FrozenLM:
        calls.append(name)
        return load(name, **options)

    monkeypatch.setattr(FrozenLM, "load", counted)
    source = shutil.copytree(specs["full"].source, tmp_path / "source")
    models, spec = ResidentModels(), specs["full"].replace(source=str(source))

    def pair(one: JobSpec) -> ModelPair:
        return models.pair(one, load_splits(one), Worker())

    assert pair(spec).target is pair(spec.replace(injection="adapter")).target
    assert calls == [spec.source, spec.target]
    pair(spec.replace(model_dtype="bfloat16"))
    assert calls == [spec.source, spec.target] * 2
    weights = source / "model.safetensors"
    changed = load_file(weights)
    save_file({name: value * 2 for name, value in changed.items()}, weights, metadata={"format": "pt"})
    pair(spec.replace(model_dtype="bfloat16"))
    assert calls == [spec.source, spec.target] * 3, "its file was written again"


def test_checkpoints_lie_where_a_later_start_finds_them(tmp_path: Path) -> None:
    reports: list[tuple[dict[str, float], str]] = []
    session = ResidentSession(Worker(), tmp_path / "train", lambda *report: reports.append(report))
    for step in (5, 10, 15):
        session.report(step, {"validation_accuracy": step / 100}, lambda folder: (folder / "a").touch())
        session.wait()
    kept = [tmp_path / "train" / f"checkpoint_{step:08d}" for step in (15, 10)]
    assert session.checkpoints() == kept == sorted((tmp_path / "train").iterdir(), reverse=True)
    assert reports[0] == ({"step": 5.0, "validation_accuracy": 0.05}, str(tmp_path / "train" / "checkpoint_00000005"))
    assert [metrics["step"] for metrics, _ in reports] == [5.0, 10.0, 15.0]
