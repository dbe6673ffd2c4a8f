"""Trials at once on a real Ray: as many as fit, none that waits for ever, and the numbers of one at a time."""

import threading
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from ray_bridge.config.presets import tiny, tiny_run
from tests.support.campaigns import PLACED, TRAINED, journal, prepare
from tests.support.local_jobs import run_job
from tests.support.waiting import wait_for
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import full, only
from tune_spaces.ray_tune.trainable import START_TIMEOUT

pytestmark = pytest.mark.slow
TRIALS = 10


def replicas(storage: Path, cpus: float, count: int = TRIALS) -> Campaign:
    """Return `full` under many seeds, as jobs of one worker with so many CPUs. The tests' Ray head has two."""
    run = tiny_run(workers=1, cpus_per_worker=cpus)
    return Campaign(
        Phase(name="replicas", goal="g", first=(full(),)), tiny(), run, storage=storage, name="r", seeds=range(count)
    )


def most_at_once(moments: Iterable[tuple[float, int]]) -> int:
    """Return the largest number of intervals that overlap, given the times of their beginnings (1) and ends (-1)."""
    return max(accumulate(change for _, change in sorted(moments)))


def worked_at_once(storage: Path) -> int:
    """Return how many jobs held their resources at the same time at most."""
    changes = {"start": 1, "end": -1}
    return most_at_once((row["time"], changes[row["event"]]) for row in journal(storage) if row["event"] in changes)


def ran_at_once(campaign: Campaign) -> int:
    """Return how many trials had been handed out and had not ended at the same time at most."""
    trials = [campaign.trial(name) for name in campaign.plan.trials]
    began = [(trial.spec_file.stat().st_mtime, 1) for trial in trials]
    return most_at_once([*began, *((trial.result_file.stat().st_mtime, -1) for trial in trials)])


@pytest.mark.parametrize(
    ("cpus", "parallel", "slots", "running"),
    [
        (2.0, "auto", 1, 1),
        (1.01, "auto", 1, 1),  # two just do not fit
        (1.0, "auto", 2, 2),
        (0.67, "auto", 2, 2),  # three just do not fit
        (0.66, "auto", 3, 3),
        (0.5, 1, 4, 1),
        (0.5, 3, 4, 3),
        (1.01, 3, 1, 3),  # two wait for the place of the first
    ],
)
def test_ten_trials_end_whatever_just_fits(
    tmp_path: Path, connected_ray: Any, cpus: float, parallel: int | str, slots: int, running: int
) -> None:
    prepare(tmp_path, {"full": 0.6}, steps=1, pause=0.5)
    asked = replicas(tmp_path, cpus)
    policy = asked.run(PLACED, parallel=parallel)
    assert policy.finished
    assert len(policy.outcomes) == TRIALS
    assert not any(outcome.failed for outcome in policy.outcomes.values())
    assert len([row for row in journal(tmp_path) if row["event"] == "start"]) == TRIALS
    assert worked_at_once(tmp_path) <= slots
    assert ran_at_once(asked) == running


def test_a_job_that_was_asked_for_beyond_what_fits_waits_and_says_so(
    tmp_path: Path, connected_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place comes free after more than twice the time within which Ray Train must have started its workers."""
    monkeypatch.setenv(START_TIMEOUT, "4")
    prepare(tmp_path, {"full": 0.6}, steps=1, pause=12)
    asked = replicas(tmp_path, 1.5, count=2)
    waited: list[dict[str, Any]] = []

    def watch() -> None:
        wait_for(lambda: (asked.records.schedule() or {}).get("without_place") == 1, 60, "one job waits")
        waited.append(asked.records.schedule() or {})
        wait_for(lambda: any(row["event"] == "loop" for row in journal(tmp_path)), 60, "the other works")
        prepare(tmp_path, {"full": 0.6}, steps=1)  # the one that waits need not work for long

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    policy = asked.run(TRAINED, parallel=2)
    thread.join(1)
    assert not any(outcome.failed for outcome in policy.outcomes.values())
    assert len(waited[0]["running"]) == 2
    assert waited[0]["slots"] == 1
    began, second = (row["time"] for row in journal(tmp_path) if row["event"] == "loop")
    assert second - began > 12, "it waited"


def test_trials_at_once_measure_what_one_at_a_time_measures(tmp_path: Path, connected_ray: Any) -> None:
    """The embedded pair, two variants with a cache in common: the same samples, byte for byte.

    One at a time they run without Ray, where they start sooner.
    """
    base = tiny(steps=2, warmup_steps=1, eval_every=2, validation_examples=4, test_examples=8, train_examples=64)
    phase = Phase(name="two", goal="g", first=(full(), only("kl")))
    campaign = Campaign(phase, base, tiny_run(workers=1), storage=tmp_path, name="c")
    alone = {name: tmp_path / "alone" / name for name in campaign.plan.trials}
    for name, planned in campaign.plan.trials.items():
        run_job(planned.spec, alone[name])
    assert campaign.run(parallel=2).finished
    trials = {name: campaign.trial(name) for name in campaign.plan.trials}
    starts = [files.read_jsonl(trial.events_file)[0]["time"] for trial in trials.values()]
    ends = [trial.result_file.stat().st_mtime for trial in trials.values()]
    assert max(starts) < min(ends), "the two overlap"
    samples = {name: trial.samples_file.read_bytes() for name, trial in trials.items()}
    assert samples == {name: (folder / "samples.jsonl").read_bytes() for name, folder in alone.items()}
    assert len(set(samples.values())) == 2
    reports = [row for path in campaign.records.experiments.glob("*/*/result.json") for row in files.read_log(path)]
    assert len([row for row in reports if "step" in row and "final" not in row]) >= 2, "Tune heard of the training"
