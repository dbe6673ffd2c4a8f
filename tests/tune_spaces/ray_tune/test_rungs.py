"""A sweep's rungs after a restart: the same decisions as without one, and none that is taken twice."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from tune_spaces.ray_tune.early_stopping import ASHA, STEP, VALIDATION, scheduler
from tune_spaces.ray_tune.rungs import RecordedRungs
from tune_spaces.records.campaign_folder import SWEEP_RESULTS, CampaignFolder

RESULTS = [
    *[("a", 1, 0.9), ("b", 1, 0.5), ("c", 1, 0.95), ("d", 1, 0.3), ("a", 3, 0.92), ("c", 3, 0.95)],
    *[("e", 1, 0.91), ("f", 1, 0.96), ("e", 2, 0.91), ("f", 3, 0.93), ("a", 9, 0.93), ("f", 9, 0.99)],
]


def rungs(folder: Path) -> RecordedRungs:
    folder.mkdir(exist_ok=True)
    specs = [SimpleNamespace(steps=9, eval_every=1)]
    return scheduler(ASHA, specs, CampaignFolder(folder))  # type: ignore[no-any-return, arg-type]


def judge(own: RecordedRungs, start: int, results: list[tuple[str, int, float]]) -> list[tuple[str, int]]:
    """Return which trials are stopped at which step. Tune names trials anew at each start."""
    stopped, running = [], {}
    for name, step, value in results:
        if name in own.stopped or name in dict(stopped):
            continue
        if name not in running:
            running[name] = SimpleNamespace(trial_id=f"{start}-{name}", config={"name": name})
            own.on_trial_add(None, running[name])
        if own.on_trial_result(None, running[name], {STEP: step, VALIDATION: value}) == TrialScheduler.STOP:
            stopped.append((name, step))
    return stopped


def test_a_restart_between_any_two_results_changes_no_decision(tmp_path: Path) -> None:
    whole = judge(rungs(tmp_path / "whole"), 0, RESULTS)
    assert whole == [("b", 1), ("d", 1), ("f", 3)]
    for at in range(len(RESULTS)):
        folder = tmp_path / str(at)
        before = judge(rungs(folder), 0, RESULTS[:at])
        again = rungs(folder)
        assert [(name, result[STEP]) for name, result in again.stopped.items()] == before
        assert before + judge(again, 1, RESULTS[at:]) == whole


def test_steps_that_a_resumed_trial_repeats_are_no_new_results(tmp_path: Path) -> None:
    judge(rungs(tmp_path), 0, RESULTS[:6])
    again = rungs(tmp_path)
    assert judge(again, 1, [("a", 1, 0.9), ("a", 3, 0.92)]) == []
    assert judge(again, 1, [("g", 1, 0.89)]) == [("g", 1)], "the best third of a, b, c and d begins at 0.9"


@pytest.mark.parametrize("left", ['{"kind": "result", "tri', "\x00\x00"])
def test_an_incomplete_line_of_a_killed_driver_costs_nothing_else(tmp_path: Path, left: str) -> None:
    judge(rungs(tmp_path), 0, RESULTS[:2])
    with (tmp_path / SWEEP_RESULTS).open("a") as file:
        file.write(left)
    judge(rungs(tmp_path), 1, RESULTS[2:4])
    assert list(rungs(tmp_path).stopped) == ["b", "d"]
