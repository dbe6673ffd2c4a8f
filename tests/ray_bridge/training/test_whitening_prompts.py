"""Whitening statistics are computed from all prompts that a job trains on, whose states are there already."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.model_pairs import PairFolders


def trainer_of(folders: PairFolders, folder: Path, cache: Path | None = None, **changes: Any) -> Trainer:
    sizes = {"soft_tokens": 2, "hidden_size": 16, "num_heads": 2, "depth": 1, "batch_size": 4, "max_new_tokens": 2}
    examples = {"train_examples": 330, "validation_examples": 2, "test_examples": 2}
    places = {"source": folders.source, "target": folders.target}
    torch.set_num_threads(1)
    return Trainer(
        tiny(**places, **sizes, **examples, **changes), tiny_run(workers=1), folder, LocalSession(folder), cache
    )


@pytest.mark.parametrize(("steps", "prompts"), [(100, 330), (70, 280), (2, 256)])
def test_as_many_prompts_as_the_job_reads(folders: PairFolders, tmp_path: Path, steps: int, prompts: int) -> None:
    recorded = trainer_of(folders, tmp_path, steps=steps)._fit_whitening()
    assert recorded["whitening/rows"] == prompts
    assert 0 < recorded["whitening/shrinkage"] < 1


def test_the_source_is_not_run_again_for_them(folders: PairFolders, tmp_path: Path) -> None:
    trainer = trainer_of(folders, tmp_path / "trial", tmp_path / "cache", steps=100)
    fresh = trainer_of(folders, tmp_path / "other", steps=100)
    trainer.prepare()
    with mock.patch.object(trainer.source_states, "compute", side_effect=AssertionError("the source was run again")):
        trainer._fit_whitening()
    fresh._fit_whitening()
    own, others = trainer.translator.state_dict(), fresh.translator.state_dict()
    for name in (name for name in own if "whiten" in name or "center" in name):
        torch.testing.assert_close(own[name], others[name], rtol=1e-5, atol=1e-6)
