"""SIGTERM and SIGINT end a driver within seconds, in one line and without a rest, and `resume` goes on."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from tests.support.campaigns import NAME, driver, driver_log, end, events, prepare, steps
from tests.support.command_line import call_here
from tests.support.faults import end_by, last_line
from tests.support.ray_clusters import connected, free
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


def stopped(storage: Path) -> str:
    """Return why the last start ended before its trials, as recorded."""
    return str(files.read_json(storage / NAME / "campaign.json")["starts"][-1]["stopped"]["reason"])


@pytest.mark.parametrize("seconds", [1.5, 8.0])
def test_a_driver_that_just_started_ends_in_one_line_with_its_local_ray(storage: Path, seconds: float) -> None:
    prepare(storage, {"full": 0.72}, steps=1000, pause=0.2)
    process = driver(storage, "--skip-preflight")
    try:
        time.sleep(seconds)
        end_by(process, signal.SIGTERM)
    finally:
        end(process)
    assert last_line(storage).startswith("stopped by SIGTERM "), driver_log(storage)
    assert "Traceback" not in driver_log(storage)


def test_running_trials_end_after_their_step_and_go_on(storage: Path, ray_head: Any) -> None:
    prepare(storage, {"full": 0.72}, steps=1000, pause=0.2)
    process = driver(storage, "--skip-preflight", address=ray_head.address)
    try:
        wait_for(lambda: steps(storage, "full"), 90, "full starts")
        end_by(process, signal.SIGINT)
    finally:
        end(process)
    assert "not finished: full-" in last_line(storage)
    assert f"resume --storage {storage} --name {NAME}" in last_line(storage)
    assert stopped(storage) == "SIGINT"
    assert call_here("status", "--storage", str(storage)).stdout.startswith(f"{NAME}: stopped (SIGINT), 0 of 1 trials")
    done = len(steps(storage, "full"))
    (trial,) = map(TrialFolder, (storage / NAME / "trials").iterdir())
    assert [row["status"] for row in trial.events() if row["kind"] == "status"] == ["RUNNING", "KILLED"]
    prepare(storage, {"full": 0.72}, steps=done + 1)
    process = driver(storage, "--skip-preflight", address=ray_head.address)
    assert process.wait(90) == 0, driver_log(storage)
    assert steps(storage, "full") == list(range(done + 1)), "no step is done twice"
    assert events(storage, "end") == ["full"]


def test_the_embedded_pair_leaves_a_checkpoint_of_its_last_step(storage: Path, ray_head: Any) -> None:
    sizes = ("validation_examples=4", "test_examples=8", "train_examples=64", "steps=2000", "eval_every=1000")
    options = [f"--set={size}" for size in (*sizes, "checkpoint_every=1000", "workers=1")]
    process = driver(storage, "--skip-preflight", *options, job="ray_bridge:run_job", address=ray_head.address)

    def trained() -> list[int]:
        return [
            event["step"]
            for path in (storage / NAME / "trials").glob("*")
            for event in TrialFolder(path).events()
            if event["kind"] == "metrics" and "loss/total" in event["values"]
        ]

    try:
        wait_for(trained, 120, "it trains")
        end_by(process, signal.SIGTERM)
    finally:
        end(process)
    (checkpoint,) = (storage / NAME / "trials").glob("*/train/checkpoint_0*")
    assert int(checkpoint.name.removeprefix("checkpoint_")) == max(trained())
    assert stopped(storage) == "SIGTERM"
    with connected(ray_head):
        wait_for(lambda: free("CPU") == 2, 10, "its CPUs are free")
