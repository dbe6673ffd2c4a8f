"""How a trial ended, from its metrics and from its folder."""

from pathlib import Path

from bridge_common.trial_folder import TrialFolder
from tune_spaces.gate.outcome import Outcome

METRICS = {"accuracy/bridged": 0.7, "correct/bridged": 14.0, "n": 20.0, "accuracy/target_alone": 0.1}


def test_an_outcome_has_the_bridged_accuracy_its_counts_and_where_it_ran() -> None:
    made = Outcome.of_metrics(METRICS, Path("/c/trials/full"), "node")
    assert made == Outcome(accuracy=0.7, correct=14, n=20, folder="/c/trials/full", node_id="node")
    assert (type(made.correct), type(made.n)) == (int, int)
    assert not made.failed


def test_counts_that_a_job_did_not_report_are_none() -> None:
    made = Outcome.of_metrics({"accuracy/bridged": 0}, "/c", None)
    assert made == Outcome(accuracy=0.0, correct=None, n=None, folder="/c", node_id=None)
    assert not made.failed, "no correct answer is an accuracy"


def test_a_folder_has_an_outcome_once_it_has_a_result(tmp_path: Path) -> None:
    trial = TrialFolder(tmp_path / "full")
    trial.begin({"variant": "full"})
    assert Outcome.of_trial(trial) is None
    trial.write_result({"metrics": METRICS, "node_id": "node"})
    assert Outcome.of_trial(trial) == Outcome.of_metrics(METRICS, trial.path, "node")
    trial.write_result({"metrics": METRICS})
    assert Outcome.of_trial(trial) == Outcome.of_metrics(METRICS, trial.path, None)


def test_an_outcome_without_an_accuracy_has_failed() -> None:
    assert Outcome(accuracy=None).failed
