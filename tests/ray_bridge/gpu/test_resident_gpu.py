"""On a GPU: jobs on models that stay loaded have the numbers of jobs that load them, after any graphs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bridge_common.files import read_jsonl
from ray_bridge.config.presets import tiny_run
from ray_bridge.distributed import Worker
from ray_bridge.training.resident_models import ResidentModels, release_memory
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import recorded, small_spec
from tests.support.model_pairs import PairFolders

pytestmark = pytest.mark.gpu
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "decode-aware": {"decode_aware": True, "decode_questions": 2, "decode_samples": 2},
    "unaligned": {"kl_alignment": False, "geometry_projection": False},
    "adapter": {"injection": "adapter"},
    "header": {"num_fewshot": 2, "soft_position": "before_question"},
    "full-again": {},
}


@pytest.mark.parametrize("autocast", [False, True])
def test_each_job_after_others_has_the_numbers_of_one_alone(
    folders: PairFolders, tmp_path: Path, autocast: bool
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    kept = ResidentModels()
    for name, changes in VARIANTS.items():
        spec = small_spec(folders, steps=12, eval_every=6, eval_dtype="float64", **changes)
        alone, after = tmp_path / "alone" / name, tmp_path / "after" / name
        for folder, models in ((alone, None), (after, kept)):
            session = LocalSession(folder, Worker(device=torch.device("cuda", 0)))
            run = tiny_run(workers=1, autocast=autocast)
            assert Trainer(spec, run, folder, session, folder / "cache", models=models).run() is not None
            release_memory()
        weights = [load_file(folder / "selected" / "translator.safetensors") for folder in (alone, after)]
        for key, value in weights[0].items():
            torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        if not autocast:  # some kernels sum in no fixed order, which half precision shows
            assert read_jsonl(alone / "samples.jsonl") == read_jsonl(after / "samples.jsonl"), name
        numbers = [[step for step, _ in recorded(folder)[2]] for folder in (alone, after)]
        assert numbers[0] == numbers[1], name
