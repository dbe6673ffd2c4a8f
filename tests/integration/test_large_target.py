"""Phase 3's variant `target-70b` in miniature through Tune and Ray Train: two workers hold the target between them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge_common.files import read_json
from bridge_common.metric_names import CONDITIONS
from ray_bridge.config.presets import tiny_run
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders, make_pair
from tune_spaces.campaign import Campaign
from tune_spaces.design import phases
from tune_spaces.design.phases import Phase

pytestmark = pytest.mark.slow


def test_the_large_target_runs_in_parts(tmp_path: Path, connected_ray: Any) -> None:
    pair = make_pair(tmp_path / "pair", target_width=64, target_kv_heads=2)
    small = PairFolders(source=pair.source, target="embedded:target")
    base = small_spec(small, steps=2, eval_every=2, test_examples=5, num_fewshot=1, target_shards=2)
    planned = next(variant for variant in phases.phase3(base).first if variant.name == "target-70b")
    variant = replace(planned, changes={**planned.changes, "target": pair.target})
    phase = Phase(name="phase3", goal="a larger target", first=(variant,))
    campaign = Campaign(phase, base, tiny_run(workers=2), storage=tmp_path / "runs", name="large")
    assert campaign.run().finished
    (trial,) = campaign.plan.trials.values()
    folder = campaign.trial(trial.name).path
    result = read_json(folder / "result.json")
    assert result["workers"] == 2
    assert {f"accuracy/{condition}" for condition in CONDITIONS} <= set(result["metrics"])
    assert read_json(folder / "spec.json")["spec"]["target_shards"] == 2
    # One worker with the whole target, in this process, under the same fingerprint.
    run_job(trial.spec.replace(target_shards=1), tmp_path / "alone")
    assert (folder / "samples.jsonl").read_bytes() == (tmp_path / "alone" / "samples.jsonl").read_bytes()
