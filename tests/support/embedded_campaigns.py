"""Campaigns of the embedded pair in miniature, run by their command, and compared with one that nothing disturbs."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from tests.support import mlflow_records
from tests.support.campaigns import NAME, driver_log
from tests.support.faults import driving
from tests.support.mlflow_store import copy_database
from tests.support.waiting import wait_for

JOB = "ray_bridge:run_job"
STEPS, CHECKPOINT_EVERY = 60, 6
BEST = 9  # the step that validates best: later checkpoints must bring its weights along
WHOLE = 12  # the first of them; it is complete before the next one is begun
SIZES: dict[str, Any] = {
    "soft_tokens": 4,
    "hidden_size": 16,
    "num_heads": 2,
    "depth": 1,
    "train_examples": 64,
    "validation_examples": 4,
    "test_examples": 8,
    "batch_size": 4,
    "learning_rate": 0.01,
    "warmup_steps": 2,
    "steps": STEPS,
    "eval_every": BEST,
    "checkpoint_every": CHECKPOINT_EVERY,
    "workers": 2,
    "cpus_per_worker": 1,
}
SETTINGS = tuple(f"--set={name}={value}" for name, value in SIZES.items())
OPTIONS = ("--gate-passes=0", "--gate-attribute=0", *SETTINGS)  # only `full` runs, however good
TIMING = re.compile(r"second|^start/|gpu_hours")


@contextmanager
def running(storage: Path, *arguments: str, **how: Any) -> "Iterator[subprocess.Popen[str]]":
    """Run a campaign of one trial of the embedded pair; `how` goes to `faults.driving`."""
    with driving(storage, *OPTIONS, *arguments, job=JOB, **how) as process:
        yield process


def steps_of(trial: TrialFolder) -> list[int]:
    """Return the steps of a trial that are recorded so far."""
    return [event["step"] for event in trial.events() if "loss/total" in event.get("values", {})]


def trained(storage: Path) -> list[int]:
    """Return the steps of the campaign's only trial that are recorded so far."""
    return [step for trial in TrialFolder.begun_in(storage / NAME) for step in steps_of(trial)]


def starts(storage: Path) -> list[float]:
    """Return when each start of the job's workers had loaded what it needs, by their clock."""
    (trial,) = TrialFolder.begun_in(storage / NAME)
    return [event["time"] for event in trial.events() if "torch" in event.get("values", {})]


def went_on_from(storage: Path) -> int:
    """Return the step of the checkpoint from which the last start went on, 0 for none, by what it reported to Tune."""
    began = int(starts(storage)[-1])  # Tune's times are whole seconds
    results = (row for path in (storage / NAME / "tune").glob("*/*/result.json") for row in files.read_log(path))
    return min(int(row["step"]) for row in results if "step" in row and row["timestamp"] >= began) - CHECKPOINT_EVERY


def wait_until_it_trains(storage: Path, step: int = WHOLE + CHECKPOINT_EVERY + 1) -> None:
    """Wait until a step is recorded before which the checkpoint of step `WHOLE` is complete."""
    wait_for(lambda: max(trained(storage), default=0) >= step, 240, "it trains")


@dataclass(frozen=True)
class Numbers:
    """What two campaigns of one spec and seed must share, whatever happened to them.

    Attributes:
        result: metrics of `result.json`, and the step whose weights were chosen.
        samples: `samples.jsonl`.
        weights: the chosen weights.
        recorded: the value of each metric and step of the event log, each there once however often it was computed.
        in_mlflow: each point (metric, step, value) of the trial's run, counted.
        runs: kinds and states of the campaign's runs in MLflow.
        ending: the last lines that the driver printed, from the gate's on, without spaces and line breaks.
    """

    result: dict[str, Any]
    samples: bytes
    weights: bytes
    recorded: dict[tuple[str, int], float]
    in_mlflow: Counter[tuple[str, int, float]]
    runs: list[tuple[str, str]]
    ending: str


def numbers(storage: Path, *, uri: str | None = None, log: Path | None = None) -> Numbers:
    """Return what an ended campaign of one trial has measured and recorded, without times.

    Args:
        storage: its storage.
        uri: of the MLflow store; by default the storage's.
        log: what its driver printed; by default `driver.log` in the storage.
    """
    (trial,) = TrialFolder.begun_in(storage / NAME)
    result, uri = trial.result() or {}, uri or f"sqlite:///{storage / 'mlflow.db'}"
    recorded: dict[tuple[str, int], float] = {}
    for event in trial.events():
        for name, value in event["values"].items() if event["kind"] == "metrics" else ():
            if not TIMING.search(name):
                assert (name, event["step"]) not in recorded, f"{name} of step {event['step']} is recorded twice"
                recorded[name, event["step"]] = value
    run = mlflow_records.trials(uri, NAME)["full"]
    points = mlflow_records.points(uri, run.info.run_id)
    missing = mlflow_records.logged_points(trial.path) - points
    assert not missing, f"MLflow has not what the event log has: {missing}"
    printed = log.read_text() if log else driver_log(storage)
    ending = "".join(printed[printed.rindex("\ngate: ") :].split()).replace(str(storage), "STORAGE")
    return Numbers(
        result={name: result[name] for name in ("metrics", "selected_step", "steps", "initialisation")},
        samples=(trial.path / "samples.jsonl").read_bytes(),
        weights=(trial.path / result["checkpoint"]).read_bytes(),
        recorded=recorded,
        in_mlflow=Counter({point: count for point, count in points.items() if not TIMING.search(point[0])}),
        runs=sorted((run.data.tags["kind"], run.info.status) for run in mlflow_records.runs(uri, NAME)),
        ending=ending,
    )


def assert_as_undisturbed(found: Numbers, undisturbed: Numbers) -> None:
    """Check that a campaign ended as one that nothing disturbed: each number bit for bit, each run and point once."""
    assert found.samples == undisturbed.samples
    assert found.weights == undisturbed.weights
    assert found.result == undisturbed.result
    assert found.recorded == undisturbed.recorded
    assert found.in_mlflow == undisturbed.in_mlflow
    assert found.runs == undisturbed.runs == [("phase", "FINISHED"), ("trial", "FINISHED")]
    assert found.ending == undisturbed.ending, "the last lines say the same"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path, ray_head: Any) -> Numbers:
    """Return what the campaign measures and records if nothing happens to it."""
    storage = copy_database(mlflow_database, tmp_path_factory.mktemp("undisturbed"))
    with running(storage, address=ray_head.address) as process:
        assert process.wait(300) == 0, driver_log(storage)
    found = numbers(storage)
    assert found.result["selected_step"] == BEST, "else nothing shows whether a resume keeps the best weights"
    return found
