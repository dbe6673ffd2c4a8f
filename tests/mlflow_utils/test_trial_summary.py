"""A trial's final metrics, tags and status, as stores, tables and reports show them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bridge_common.trial_folder import TrialFolder
from mlflow_utils.trial_summary import result_metrics, result_tags, status_of

RUN = {"workers": 4, "use_gpu": True}


def trial(folder: Path, result: dict[str, Any] | None, run: dict[str, Any] | None = RUN) -> TrialFolder:
    made = TrialFolder(folder)
    if run is not None:
        made.begin({"spec": {}, "run": run})
    if result is not None:
        made.result_file.parent.mkdir(parents=True, exist_ok=True)
        made.result_file.write_text(json.dumps(result))  # as other programs may write it, infinities included
    return made


def test_metrics_are_the_finite_numbers_of_the_result_with_its_time(tmp_path: Path) -> None:
    metrics = {"a": 1, "b": 0.5, "c": None, "e": True, "f": math.inf}
    found = result_metrics(trial(tmp_path, {"metrics": metrics, "seconds": 90}))
    assert found == {"a": 1.0, "b": 0.5, "seconds": 90.0, "gpu_hours": 90 * 4 / 3600}
    assert {type(value) for value in found.values()} == {float}


def test_gpu_hours_are_those_of_runs_on_gpus(tmp_path: Path) -> None:
    done = {"metrics": {}, "seconds": 90.0}
    assert result_metrics(trial(tmp_path, done, {"workers": 4, "use_gpu": False})) == {"seconds": 90.0}
    assert result_metrics(trial(tmp_path, done, {"use_gpu": True}))["gpu_hours"] == 90 / 3600
    for run in ({}, None):
        assert result_metrics(trial(tmp_path / str(run), done, run)) == {"seconds": 90.0}


def test_what_the_job_measured_itself_counts(tmp_path: Path) -> None:
    found = result_metrics(trial(tmp_path, {"metrics": {"seconds": 1.0, "gpu_hours": 2.0}, "seconds": 90.0}))
    assert found == {"seconds": 1.0, "gpu_hours": 2.0}


def test_without_a_result_or_without_times_there_is_nothing_to_add(tmp_path: Path) -> None:
    assert result_metrics(trial(tmp_path, None)) == {}
    for seconds in (None, math.nan):
        assert result_metrics(trial(tmp_path, {"metrics": {}, "seconds": seconds})) == {}


def test_tags_are_the_node_and_the_path_of_the_checkpoint(tmp_path: Path) -> None:
    assert result_tags(trial(tmp_path, None)) == {}
    assert result_tags(trial(tmp_path, {"metrics": {}, "checkpoint": None, "node_id": ""})) == {}
    found = result_tags(trial(tmp_path, {"metrics": {}, "checkpoint": "selected", "node_id": "f00d"}))
    assert found == {"checkpoint": str(tmp_path.resolve() / "selected"), "node_id": "f00d"}
    assert result_tags(trial(tmp_path, {"metrics": {}, "checkpoint": "/elsewhere"})) == {"checkpoint": "/elsewhere"}


@pytest.mark.parametrize(
    ("reported", "phase", "finished", "status"),
    [
        ("FAILED", "RUNNING", False, "FAILED"),
        ("KILLED", "FINISHED", True, "KILLED"),
        ("FINISHED", "RUNNING", False, "FINISHED"),
        (None, "RUNNING", True, "RUNNING"),
        ("RUNNING", "RUNNING", False, "RUNNING"),
        ("RUNNING", "FINISHED", True, "FINISHED"),
        (None, "KILLED", False, "KILLED"),
        (None, "FAILED", True, "FINISHED"),
    ],
)
def test_a_trial_that_reported_no_end_ended_with_its_phase(
    tmp_path: Path, reported: str | None, phase: str, finished: bool, status: str
) -> None:
    assert status_of(trial(tmp_path, {"metrics": {}} if finished else None), reported, phase) == status


def test_timings_stand_beside_the_metrics(tmp_path: Path) -> None:
    result = {"metrics": {"cost/flops/bridged": 5.0}, "timings": {"cost/seconds/bridged": 0.25}}
    assert result_metrics(trial(tmp_path, result)) == {"cost/flops/bridged": 5.0, "cost/seconds/bridged": 0.25}
