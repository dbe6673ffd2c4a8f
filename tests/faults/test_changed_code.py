"""The code changes between a kill and the resume: refused, or continued with a record that says so."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from tests.support import mlflow_records
from tests.support.campaigns import driver_log
from tests.support.command_line import ROOT, is_one_error_line
from tests.support.embedded_campaigns import CHECKPOINT_EVERY, JOB, SETTINGS, steps_of
from tests.support.faults import driving
from tests.support.git_checkouts import commit_all
from tests.support.ray_clusters import ENVIRONMENT
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
NAME = "ablate-tiny"
TERM = 'name="answer_nll", weight=1.0'
DESIGN = ("--design=add-one-in", "--toggle=kl", *SETTINGS)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a checkout of the packages, which a test may change."""
    copy = tmp_path / "checkout"
    for package in ("bridge_common", "cluster", "mlflow_utils", "ray_bridge", "tune_spaces"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    commit_all(copy)
    return copy


def change_a_loss_term(code: Path) -> None:
    file = code / "ray_bridge" / "objectives" / "objective.py"
    text = file.read_text()
    assert text.count(TERM) == 1
    file.write_text(text.replace(TERM, 'name="answer_nll", weight=1.5'))


def resume(code: Path, storage: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, "-m", "cluster", "resume", "--storage", str(storage), "--job", JOB, "--skip-preflight")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [*command, *arguments],
        cwd=code,
        env={**environment, **ENVIRONMENT, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def trials(storage: Path) -> list[TrialFolder]:
    """Return the trials that have begun, finished ones first."""
    return sorted(TrialFolder.begun_in(storage / NAME), key=lambda trial: not trial.finished)


def provenance(storage: Path, trial: TrialFolder) -> Any:
    """Return what says which code trained a trial, on disk and in MLflow."""
    spec = files.read_json(trial.path / "spec.json")
    run = mlflow_records.trials(f"sqlite:///{storage / 'mlflow.db'}", NAME)[spec["variant"]]
    return (trial.result() or {})["code"], spec, run.data.tags, run.data.params, run.info.end_time


def test_other_code_goes_on_with_a_killed_campaign_only_if_asked_and_on_the_record(storage: Path, code: Path) -> None:
    with driving(storage, *DESIGN, phase="ablate", job=JOB, code=code) as process:
        wait_for(lambda: len(trials(storage)) == 2 and trials(storage)[0].finished, 400, "the first has ended")
        wait_for(lambda: max(steps_of(trials(storage)[1]), default=0) > CHECKPOINT_EVERY, 240, "the second trains")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    finished, unfinished = trials(storage)
    assert not unfinished.finished
    before, (old,) = provenance(storage, finished), (unfinished.spec() or {})["code"]
    change_a_loss_term(code)

    refused = resume(code, storage)
    assert is_one_error_line(refused), refused.stdout + refused.stderr
    assert f"the code has changed since {unfinished.name} began" in refused.stderr
    assert "--allow-changed-code" in refused.stderr
    assert (unfinished.spec() or {})["code"] == [old], "nothing of the other code is in the record"

    done = resume(code, storage, "--allow-changed-code")
    assert done.returncode == 0, done.stdout + done.stderr + driver_log(storage)
    both = (unfinished.result() or {})["code"]
    assert both[0] == old
    assert len(set(both)) == len(both) == 2, "the record names both versions"
    assert provenance(storage, finished) == before, "a finished trial's provenance stays as it was"
    table = subprocess.run(
        [sys.executable, "-m", "cluster", "results", "--storage", str(storage), "--out", str(storage / "results.csv")],
        cwd=code,
        capture_output=True,
        text=True,
        check=False,
    )
    assert table.returncode == 0, table.stderr
    assert "+".join(both) in (storage / "results.csv").read_text()
    recorded = mlflow_records.runs(f"sqlite:///{storage / 'mlflow.db'}", NAME)
    assert sorted((run.data.tags["kind"], run.info.status) for run in recorded) == [
        ("phase", "FINISHED"),
        ("trial", "FINISHED"),
        ("trial", "FINISHED"),
    ]
