"""SIGTERM and SIGINT while test items are evaluated: the driver is gone in time, and the evaluation starts again."""

import signal
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from tests.support.campaigns import NAME, driver, driver_log, end
from tests.support.faults import RECOVERY_S, assert_nothing_reserved, end_by, last_line, trial_of
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
ITEMS = 400  # two idle cores take 25 s for them
MUST_TAKE_S = 10.0  # CHECKPOINT_S and the looks for a signal: an evaluation that ends before leaves nothing to test
SIZES = ("validation_examples=4", f"test_examples={ITEMS}", "train_examples=64", "steps=2", "eval_every=2")
GATE = ("--gate-passes=0", "--gate-attribute=0")  # only `full` runs, however good
OPTIONS = ("--skip-preflight", *GATE, *(f"--set={size}" for size in (*SIZES, "workers=1", "progress_timeout=60")))


def steps(storage: Path) -> list[int]:
    """Return the steps that are recorded."""
    return [event["step"] for event in trial_of(storage).events() if "loss/total" in event.get("values", {})]


def evaluating(storage: Path) -> bool:
    """Return whether the final evaluation has begun.

    The selected weights are written just before; a heartbeat says so up to 5 s later, when it may nearly be over.
    """
    return trial_of(storage).has_selected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_in_evaluation_ends_the_driver_in_time(
    number: int, storage: Path, ray_head: Any, record_property: Any
) -> None:
    job = "ray_bridge:run_job"
    process = driver(storage, *OPTIONS, job=job, address=ray_head.address)
    try:
        wait_for(lambda: TrialFolder.begun_in(storage / NAME), 120, "the trial has begun")
        wait_for(lambda: evaluating(storage), 240, "it evaluates")
        record_property(RECOVERY_S, end_by(process, number))
    finally:
        end(process)
    assert not trial_of(storage).finished, "it was still evaluating"
    assert last_line(storage).startswith(f"stopped by {signal.Signals(number).name} (not finished: full-")
    assert_nothing_reserved(ray_head)
    process = driver(storage, *OPTIONS, job=job, address=ray_head.address)
    try:
        assert process.wait(400) == 0, driver_log(storage)
    finally:
        end(process)
    samples = files.read_jsonl(trial_of(storage).path / "samples.jsonl")
    assert [row["index"] for row in samples] == list(range(ITEMS)), "each item once"
    assert steps(storage) == [1, 2], "no step is done twice"
    assert (trial_of(storage).result() or {})["evaluation_seconds"] > MUST_TAKE_S
