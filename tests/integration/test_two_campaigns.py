"""Two drivers on one small Ray cluster, where both count the last free place as theirs, or share a storage."""

import sys
import time
from itertools import accumulate
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
import ray

from bridge_common import files
from tests.support.campaigns import PLACED, TRAINED, driver, driver_log, end, events, journal, prepare
from tests.support.cheap_jobs import checksum
from tests.support.faults import assert_recorded_once
from tests.support.ray_clusters import connected, free
from tests.support.waiting import wait_for
from tune_spaces.ray_tune.trainable import START_TIMEOUT
from tune_spaces.ray_tune.turns import SILENT_S, Announcements

pytestmark = pytest.mark.slow
VARIANTS = ("kl+prompt", "kl", "prompt", "none")
FACTORIAL = ("--design=factorial", "--toggle=kl", "--toggle=prompt", "--skip-preflight")
TWO = ("--design=factorial", "--toggle=kl", "--skip-preflight")
CHANGE = {"start": 1, "end": -1}


def start(
    storage: Path, address: str, workers: int, job: str, design: tuple[str, ...] = FACTORIAL, **jobs: Any
) -> "Popen[str]":
    """Start a campaign whose jobs need a CPU a worker and take two steps; Ray Train's workers have 3 s to start."""
    prepare(storage, dict.fromkeys(VARIANTS, 0.6), steps=2, **jobs)
    settings = (f"--set=workers={workers}", "--set=cpus_per_worker=1")
    variables = {START_TIMEOUT: "3"}
    return driver(storage, *design, *settings, phase="ablate", job=job, address=address, **variables)


def run_both(
    first: "Popen[str]", second: "Popen[str]", storages: tuple[Path, Path], trials: tuple[int, int] = (4, 4)
) -> None:
    """Wait for both and check that every trial of each ended well, once."""
    try:
        for process, storage in zip((first, second), storages, strict=True):
            assert process.wait(240) == 0, driver_log(storage)
    finally:
        end(first)
        end(second)
    for storage, count in zip(storages, trials, strict=True):
        assert not list(storage.glob("ablate-tiny/trials/*/error.json"))
        assert len(list(storage.glob("ablate-tiny/trials/*/result.json"))) == count


def waiting(storage: Path) -> int:
    """Return how many jobs of a campaign wait for a place."""
    record = storage / "ablate-tiny" / "schedule.json"
    return int(files.read_json(record)["without_place"]) if record.is_file() else 0


def held(storages: tuple[Path, Path]) -> list[tuple[float, int]]:
    """Return when jobs of both campaigns began and ended to hold their resources."""
    rows = [row for storage in storages for row in journal(storage) if row["event"] in CHANGE]
    return sorted((row["time"], CHANGE[row["event"]]) for row in rows)


def test_two_campaigns_share_the_places_of_a_cluster(tmp_path: Path, ray_head: Any) -> None:
    """Two places and eight jobs. Each driver would take both places for itself."""
    storages = (tmp_path / "a", tmp_path / "b")
    both = [start(storage, ray_head.address, 1, PLACED, pause=0.5, hold=True) for storage in storages]
    for storage in storages:
        wait_for(lambda storage=storage: journal(storage) or waiting(storage), 120, "each has a job")
    for storage in storages:
        (storage / "go").touch()
    run_both(*both, storages)
    assert max(accumulate(change for _, change in held(storages))) == 2
    for storage in storages:
        assert len([row for row in journal(storage) if row["event"] == "start"]) == len(VARIANTS), "none ran twice"
    with connected(ray_head):
        wait_for(lambda: free("CPU") == 2, 10, "all CPUs are free")


def test_a_campaign_with_many_jobs_leaves_every_other_free_place_to_another(tmp_path: Path, ray_head: Any) -> None:
    """Twelve jobs, two of them on both places, when four of another campaign come: they then have a place each.

    A job takes longer than the two seconds for which an announcement of what a campaign holds may be out of date.
    """
    many, few = tmp_path / "many", tmp_path / "few"
    seeds = ("--seeds=0,1,2",)
    first = start(many, ray_head.address, 1, PLACED, FACTORIAL + seeds, pause=1.5, hold=True)
    wait_for(lambda: len(events(many, "step")) == 2, 120, "the first holds both places")
    second = start(few, ray_head.address, 1, PLACED, pause=1.5)
    wait_for(lambda: waiting(few) == 1, 120, "a job of the second waits")
    time.sleep(5)  # the first reads that
    (many / "go").touch()
    run_both(first, second, (many, few), trials=(12, 4))
    starts = {storage: [row["time"] for row in journal(storage) if row["event"] == "start"] for storage in (many, few)}
    between = [moment for moment in starts[many] if starts[few][0] < moment < starts[few][-1]]
    assert len([moment for moment in starts[many][2:] if moment < starts[few][0]]) <= 1, "it was its turn"
    assert len(between) <= 5, "one of each in turn"
    assert len(starts[many]) == 12
    assert max(accumulate(change for _, change in held((many, few)))) == 2


@pytest.mark.long
def test_a_campaign_of_large_jobs_waits_for_the_small_ones_of_another_and_then_runs(
    tmp_path: Path, ray_head: Any
) -> None:
    """Jobs of two CPUs under Ray Train, which wait twice as long for both as workers have to start."""
    storages = (tmp_path / "large", tmp_path / "small")
    small = start(storages[1], ray_head.address, 1, PLACED, hold=True)
    wait_for(lambda: len(events(storages[1], "step")) == 2, 120, "two small jobs hold both CPUs")
    large = start(storages[0], ray_head.address, 2, TRAINED, design=TWO)
    wait_for(lambda: waiting(storages[0]) == 1, 120, "a large job waits")
    time.sleep(7)
    assert events(storages[0], "loop") == []
    (storages[1] / "go").touch()
    run_both(large, small, storages, trials=(2, 4))
    with connected(ray_head):
        wait_for(lambda: free("CPU") == 2, 10, "all CPUs are free")


def test_two_campaigns_in_one_storage_run_what_both_need_once(tmp_path: Path, ray_head: Any) -> None:
    """The second waits for the first's results, and takes over what the first leaves when it is killed.

    A resume of the first then takes the second's results: both end with the numbers of undisturbed campaigns.
    """
    prepare(tmp_path, dict.fromkeys(VARIANTS, 0.6), steps=3, pause=1.0, hold=True)
    options = (*FACTORIAL, "--parallel=1", "--name")
    first = driver(tmp_path, *options, "first", phase="ablate", address=ray_head.address)
    try:
        wait_for(lambda: journal(tmp_path), 120, "the first runs")
        second = driver(tmp_path, *options, "second", phase="ablate", address=ray_head.address)
        try:
            wait_for(lambda: "waits for its result in campaign first" in driver_log(tmp_path), 120, "the second waits")
            (tmp_path / "go").touch()
            wait_for(lambda: len(events(tmp_path, "end")) >= 2 and len(events(tmp_path, "start")) >= 3, 90, "the third")
            first.kill()
            assert second.wait(120) == 0, driver_log(tmp_path)
        finally:
            end(second)
    finally:
        end(first)
    starts = events(tmp_path, "start")
    assert sorted(set(starts)) == sorted(VARIANTS)
    assert len(starts) <= len(VARIANTS) + 1, "only the trial whose driver was killed started again"
    again = driver(tmp_path, *options, "first", phase="ablate", address=ray_head.address)
    try:
        assert again.wait(120) == 0, driver_log(tmp_path)
    finally:
        end(again)
    assert events(tmp_path, "start") == starts, "nothing is run again"
    for name in ("first", "second"):
        results = [files.read_json(path) for path in (tmp_path / name / "trials").glob("*/result.json")]
        assert {result["variant"] for result in results} == set(VARIANTS)
        assert {result["metrics"]["checksum"] for result in results} == {checksum(3)}
        assert_recorded_once(f"sqlite:///{tmp_path / 'mlflow.db'}", name, len(VARIANTS))


def test_what_a_killed_driver_announced_is_gone_with_it(ray_head: Any) -> None:
    """Else the next campaign would leave places to it for `SILENT_S`, since what is new to it counts as renewed."""
    announce = (
        "import os, sys, time, ray; from tune_spaces.ray_tune.turns import Announcements, Contender;"
        "ray.init(address=sys.argv[1], log_to_driver=False);"
        "job = ray.get_runtime_context().get_job_id();"
        "Announcements().announce(Contender(campaign='killed', folder='/k', driver=job, held=0, since=0.0, waits=True,"
        " need={'CPU': 1.0}));"
        "print(job, flush=True); time.sleep(600)"
    )
    process = Popen([sys.executable, "-c", announce, ray_head.address], stdout=PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip()
        with connected(ray_head):
            own = ray.get_runtime_context().get_job_id()
            assert [other.campaign for other in Announcements().others(own, "/own")] == ["killed"]
            process.kill()
            wait_for(lambda: not Announcements().others(own, "/own"), SILENT_S / 2, "it is gone")
    finally:
        process.kill()
        process.wait()
