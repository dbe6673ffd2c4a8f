"""The phase `rivals` in miniature through Tune: every rival trains, is evaluated and can be loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge_common.files import read_json
from bridge_common.metric_names import BRIDGE_PARAMETERS, CONDITIONS, accuracy, cost
from ray_bridge.config.presets import tiny_run
from ray_bridge.inference.translator import Translator
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import make_pair
from tune_spaces.campaign import Campaign
from tune_spaces.design import phases
from tune_spaces.design.rivals import rival_variants

pytestmark = pytest.mark.slow


def test_every_rival_runs_through_tune(tmp_path: Path, connected_ray: Any) -> None:
    pair = make_pair(tmp_path / "pair")
    sizes = {"steps": 2, "eval_every": 2, "test_examples": 3, "validation_examples": 2, "max_new_tokens": 3}
    base = small_spec(pair, **sizes, decode_aware=True, decode_questions=1, decode_samples=2, ema_decay=0.0)
    phase = replace(phases.rivals(base), needs=())
    campaign = Campaign(phase, base, tiny_run(workers=1), storage=tmp_path / "runs", name="rivals")
    policy = campaign.run("tests.support.local_jobs:in_the_trials_process", parallel=2)
    assert policy.finished
    assert not any(outcome.failed for outcome in policy.outcomes.values())
    table = campaign.results().set_index("variant")
    assert set(table.index) == {variant.name for variant in rival_variants()}
    for trial in campaign.plan.trials.values():
        folder = campaign.trial(trial.name).path
        metrics = read_json(folder / "result.json")["metrics"]
        assert {accuracy(condition) for condition in CONDITIONS} <= set(metrics), trial.variant
        assert metrics[cost("flops", "bridged")] > metrics[cost("flops", "target_alone")]
        assert metrics[BRIDGE_PARAMETERS] > 0
    fused = next(trial for trial in campaign.plan.trials.values() if trial.variant == "c2c")
    translator = Translator.load(campaign.trial(fused.name).path)
    row = translator.saved.samples[0]
    assert translator.generate(str(row["question"])).text == row["bridged_output"]
