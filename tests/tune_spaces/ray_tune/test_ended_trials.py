"""Of trials that have ended Tune holds as little as possible, counted in objects of real trials of Tune."""

import gc
import json
from collections import deque

import pytest
from ray.tune.experiment import Trial

from tune_spaces.ray_tune.ended_trials import ForgetsEnded

METRICS = 140  # of a translator job


def ended_trial(callback: ForgetsEnded, number: int, how: str) -> Trial:
    """Return a trial that has reported twice and ended, as Tune's controller calls its trials and callbacks."""
    trial = Trial("stub", stub=True, trial_id=str(number))
    for step in (1, 2):
        values = {f"metric/{name}": name / (number + step) for name in range(METRICS)}
        trial.update_last_result({**values, "training_iteration": step, "node_id": "n"})
        trial.get_json_state()  # as for a snapshot of the experiment
    getattr(callback, how)(iteration=number, trials=[trial], trial=trial)
    return trial


@pytest.mark.parametrize("how", ["on_trial_complete", "on_trial_error"])
def test_an_ended_trial_holds_its_last_result_and_no_statistics(how: str) -> None:
    gc.collect()
    before = sum(isinstance(each, deque) for each in gc.get_objects())
    trials = [ended_trial(ForgetsEnded(), number, how) for number in range(20)]
    gc.collect()
    windows = sum(isinstance(each, deque) for each in gc.get_objects()) - before
    assert windows < METRICS, f"{windows} windows of {len(trials)} trials"
    for number, trial in enumerate(trials):
        assert trial.last_result["metric/7"] == 7 / (number + 2)
        record = json.loads(trial.get_json_state()[1])
        assert record["last_result"]["metric/7"] == 7 / (number + 2)
        assert record["metric_analysis"] == record["metric_n_steps"] == {}
