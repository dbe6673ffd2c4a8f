"""A sweep whose bad trials are stopped early: recorded as such, never finished, never repeated, never compared."""

import os
import signal
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from bridge_common import files
from ray_bridge.config.presets import tiny, tiny_run
from tests.support.campaigns import driver, driver_log, end, events, prepare, steps
from tests.support.ray_searches import SearchDriver
from tests.support.waiting import wait_for
from tune_spaces.appendix.from_campaign import campaign_appendix
from tune_spaces.campaign import Campaign
from tune_spaces.design.search import parse_axis
from tune_spaces.design.sweep import sweep

pytestmark = pytest.mark.slow
VALIDATED = "tests.support.cheap_jobs:validated"
LATE = {"s0": 0.9, "s1": 0.8, "s2": 0.2, "s3": 0.1, "s4": 0.3, "s5": 0.15}


OPTUNA = ("--over=learning_rate=log:1e-5:1e-1", "--search=optuna", "--trials=5", "--stop-early=asha", "--parallel=1")
SIZES = ("--set=steps=9", "--set=eval_every=1", "--set=warmup_steps=1", "--set=workers=1", "--skip-preflight")


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


def test_a_killed_driver_forgets_neither_rungs_nor_proposals(tmp_path: Path, ray_head: Any) -> None:
    """s0 runs to its end; then the driver dies. s2 would run to its end, too, if it were compared with nobody."""
    prepare(tmp_path, LATE, steps=9, pause=0.2, validation=LATE)

    def start() -> "Popen[str]":
        return driver(tmp_path, *OPTUNA, *SIZES, phase="sweep", job=VALIDATED, address=ray_head.address)

    process = start()
    try:
        wait_for(lambda: list(tmp_path.glob("sweep-tiny/trials/s1-*/stopped.json")), 120, "s1 is stopped")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        process = start()
        assert process.wait(120) == 0, driver_log(tmp_path)
    finally:
        end(process)
        print(driver_log(tmp_path))
    campaign = Campaign.load(tmp_path, "sweep-tiny")
    table = campaign.results().set_index("variant")
    assert list(table.index) == ["s0", "s1", "s2", "s3", "s4"]
    assert table["status"].tolist() == ["finished", *["stopped early"] * 4]
    assert steps(tmp_path, "s0") == list(range(9))
    assert all(files.read_json(campaign.trial(name).stopped_file)["step"] == 1 for name in table["name"][1:])
    rates = table["learning_rate"].tolist()
    assert len(set(rates)) == 5
    assert rates[2:] == table["config/learning_rate"].tolist()[2:], "Tune's own columns name the point, too"

    undisturbed = Campaign(campaign.phase, campaign.base, campaign.run_spec, storage=tmp_path / "other", name="c")
    SearchDriver(undisturbed, lambda spec: LATE[f"s{rates.index(spec['learning_rate'])}"]).run()
    assert [trial.spec.learning_rate for trial in undisturbed.plan.trials.values()] == rates
