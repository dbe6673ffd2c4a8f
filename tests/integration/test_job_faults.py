"""A job that cannot succeed is not started again, and everyone is told why in one line."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bridge_common.trial_folder import TrialFolder
from tests.support.command_line import call_here
from tests.support.mlflow_store import copy_database

pytestmark = pytest.mark.slow


def test_a_loss_that_diverges_is_one_line_everywhere_and_not_trained_again(
    tmp_path: Path, mlflow_database: Path, ray_head: Any
) -> None:
    """A worker of Ray Train raises a `UserError` under Ray Tune, although restarts after faults are allowed."""
    storage = copy_database(mlflow_database, tmp_path)
    settings = {"steps": 20, "warmup_steps": 0, "learning_rate": 1e18, "clip_norm": 1e18, "validation_examples": 2}
    settings |= {"test_examples": 2, "workers": 1, "max_failures": 1}
    options = [f"--set={name}={value}" for name, value in settings.items()]
    done = call_here(
        *("phase1", "--storage", str(storage), "--reports", str(tmp_path / "paper"), "--skip-preflight", *options),
        RAY_ADDRESS=ray_head.address,
        COLUMNS="80",
    )
    assert done.returncode == 2, done.stdout + done.stderr
    cause = done.stdout.rstrip().splitlines()[-1]
    assert cause.startswith("training diverged at step "), cause
    assert ": lower learning_rate" in cause
    assert "Traceback" not in done.stdout + done.stderr

    (path,) = (storage / "phase1-tiny" / "trials").iterdir()
    trial = TrialFolder(path)
    error = trial.error()
    assert error is not None
    assert (error["error"], error["refused"]) == (cause, True)
    assert error["traceback"].rstrip().endswith(cause)
    starts = [event for event in trial.events() if event["kind"] == "tags" and "recompute_above" in event["values"]]
    assert len(starts) == 1, "a restart refuses before it loads anything"

    status = call_here("status", "--storage", str(storage), COLUMNS="80").stdout
    assert " ".join(status.split()).endswith(f"failed: {cause}")
    (state,) = json.loads(call_here("status", "--storage", str(storage), "--json").stdout)
    assert [(row["state"], row["error"]) for row in state["trials"]] == [("failed", cause)]
    call_here("results", "--storage", str(storage), "--out", str(tmp_path / "results.csv"))
    assert pd.read_csv(tmp_path / "results.csv")["error"].tolist() == [cause]
