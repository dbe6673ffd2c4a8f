"""Fields that cannot change a result: each rule holds for a whole job, and what is not listed does change it."""

from pathlib import Path
from typing import Any

import pytest

from ray_bridge import tiny
from ray_bridge.config.unused_fields import OBJECTIVE
from tests.support.local_jobs import recorded, run_job, small_spec
from tests.support.model_pairs import PairFolders

CHANGED: dict[str, Any] = {
    "soft_tokens": 6,
    "prompt_alignment": False,
    "prompt_weight_on": 0.3,
    "prompt_weight_off": 0.4,
    "contrast_weight": 0.5,
    "contrast_temperature": 0.2,
    "sampler_steps": 2,
    "flow_prediction": "velocity",
    "flow_weight": 0.6,
    "guidance_scale": 1.5,
    "condition_dropout": 0.5,
    "pooling": "attention",
    "decode_weight": 0.7,
    "on_policy_distill": 0.8,
    "decode_questions": 2,
    "decode_samples": 3,
    "decode_temperature": 0.5,
    "geometry_init": "ridge",
    "kl_alignment": False,
    "kl_weight": 0.9,
    "decode_aware": True,
    "prompt_share": 0.0,
    "learning_rate": 0.1,
    "warmup_steps": 3,
    "weight_decay": 0.2,
    "clip_norm": 0.1,
    "ema_decay": 0.9,
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 4,
    "source_layer": 2,
    "batch_invariant": True,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"bridge": "c2c", "injection": "c2c", "geometry_projection": False, "steps": 2},
        {"bridge": "resampler", "steps": 2},
        {"bridge": "linear", "steps": 0},
        {"steps": 0, "geometry_projection": False},
        {"bridge": "constant", "geometry_projection": False, "steps": 2},
        {"bridge": "resampler", "latent_steps": 2, "geometry_projection": False, "steps": 2},
    ],
    ids=["c2c", "resampler", "linear", "untrained", "constant", "latent_steps"],
)
def test_a_job_with_other_values_of_them_is_the_same_job(
    folders: PairFolders, tmp_path: Path, changes: dict[str, Any]
) -> None:
    spec = small_spec(folders, **{"test_examples": 4, "validation_examples": 2, "eval_every": 2, **changes})
    fields = spec.unused.keys() - {"prompt_share"}
    assert fields <= CHANGED.keys(), "each has another value here"
    other = spec.replace(**{name: CHANGED[name] for name in fields})
    assert all(getattr(spec, name) != getattr(other, name) for name in fields)
    for name, one in (("a", spec), ("b", other)):
        assert run_job(one, tmp_path / name) is not None
    assert recorded(tmp_path / "a") == recorded(tmp_path / "b")


def test_a_spec_of_the_plan_uses_all_of_its_toggles_and_the_number_of_soft_tokens() -> None:
    unused = tiny().unused
    assert not unused.keys() & {
        "kl_alignment",
        "prompt_alignment",
        "decode_aware",
        "geometry_projection",
        "soft_tokens",
    }
    assert unused == {
        "prompt_weight_off": "prompt_alignment=true",
        "batch_invariant": "eval_dtype=float64, whose text no batch changes",
    }


def test_the_setting_that_makes_it_so_is_named() -> None:
    assert tiny(steps=0).unused["decode_aware"] == "steps=0, which trains nothing"
    assert set(OBJECTIVE) <= tiny(steps=0).unused.keys()
    fused = tiny(bridge="c2c", injection="c2c", geometry_projection=False)
    assert fused.unused["soft_tokens"] == "injection=c2c, which makes no soft tokens"
    assert "kl_alignment" not in fused.unused
