"""A sweep whose bad trials are stopped early: recorded as such, never finished, never repeated, never compared."""

from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from ray_bridge.config.presets import tiny, tiny_run
from tests.support.campaigns import events, prepare
from tune_spaces.appendix.from_campaign import campaign_appendix
from tune_spaces.campaign import Campaign
from tune_spaces.design.sweep import parse_axis, sweep

pytestmark = pytest.mark.slow
VALIDATED = "tests.support.cheap_jobs:validated"
LATE = {"s0": 0.9, "s1": 0.8, "s2": 0.2, "s3": 0.1, "s4": 0.3, "s5": 0.15}


def make(storage: Path) -> Campaign:
    base = tiny(steps=9, eval_every=1, warmup_steps=1, test_examples=60)
    phase = sweep(base, [parse_axis("soft_tokens=2,4,6,8,10,12")])
    return Campaign(phase, base, tiny_run(workers=1), storage=storage, name="s", request={"stop_early": "asha"})


def test_bad_trials_stop_early_and_stay_stopped(tmp_path: Path, connected_ray: Any) -> None:
    prepare(tmp_path, LATE, steps=9, pause=0.3, samples=True, validation=LATE)
    campaign = make(tmp_path)
    policy = campaign.run(VALIDATED, parallel=2)
    assert policy.finished
    assert not any(outcome.failed for outcome in policy.outcomes.values())
    table = campaign.results().set_index("variant")
    stopped = set(table.index[table["status"] == "stopped early"])
    assert stopped
    # ASHA compares with what has reached the same step by then, so all but the best may be stopped.
    assert "s0" not in stopped
    assert set(table["status"]) == {"finished", "stopped early"}
    for variant in stopped:
        trial = campaign.trial(table.loc[variant, "name"])
        record = files.read_json(trial.stopped_file)
        assert record["validation_accuracy"] == LATE[variant]
        assert not trial.samples, "no test item was looked at"
        assert [event for event in trial.events() if event["kind"] == "metrics"], "its curve is kept"

    started = events(tmp_path, "start")
    assert make(tmp_path).run(VALIDATED).finished
    assert events(tmp_path, "start") == started, "what was stopped is not started again"
    text = campaign_appendix(campaign.folder)["appendix.md"].read_text()
    assert f"A sweep of 6 trials**: {6 - len(stopped)} were trained to the end" in text
    assert f"{len(stopped)} were stopped early" in text
    assert "selects s0" in text
    outcomes = text.split("## Accuracy by variant")[1].split("##")[0]
    assert not any(f"| {variant} |" in outcomes for variant in stopped)
