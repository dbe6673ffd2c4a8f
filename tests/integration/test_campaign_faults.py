"""A driver that is killed, stopped, or doubled: no variant twice, none lost, the decision unchanged."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge_common import files
from tests.support.campaigns import NAME, campaign, driver, end, events, journal, prepare, ray_cluster
from tests.support.waiting import wait_for

ACCURACY = {"full": 0.67, "A": 0.6, "B": 0.61, "C": 0.62}
STEPS = 8


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ray_cluster() as cluster:
        yield cluster.address


def steps(storage: Path, variant: str) -> list[int]:
    return [row["step"] for row in journal(storage) if row["event"] == "step" and row["variant"] == variant]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments_it_ends_as_if_undisturbed(tmp_path: Path, address: str, seed: int) -> None:
    """SIGKILL in full, between variants and in B, and at moments drawn at random."""
    rng = random.Random(seed)
    prepare(tmp_path, ACCURACY, steps=STEPS, pause=0.3)
    moments = [
        lambda: len(steps(tmp_path, "full")) >= rng.randint(1, STEPS - 1),
        lambda: "full" in events(tmp_path, "end"),
        lambda: len(steps(tmp_path, "B")) >= rng.randint(1, STEPS - 1),
    ]
    decided = None
    for moment in moments if seed == 0 else moments[1:]:
        process = driver(tmp_path, address=address)
        try:
            wait_for(moment, 90, (tmp_path / "driver.log").read_text())
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
        gate = files.read_json(tmp_path / NAME / "gate.json")
        decided = decided or (gate["branch"] if gate["branch"] else None)
    process = driver(tmp_path, address=address)
    try:
        assert process.wait(180) == 0, (tmp_path / "driver.log").read_text()
    finally:
        end(process)
    assert events(tmp_path, "end") == ["full", "B", "C"]
    for variant in ("full", "B", "C"):
        done = steps(tmp_path, variant)
        assert sorted(set(done)) == list(range(STEPS))
        assert len(done) <= STEPS + 1, "a job goes on from where it was"
    frame = campaign(tmp_path).results()
    assert sorted(frame["variant"]) == ["B", "C", "full"]
    assert set(frame["status"]) == {"finished"}
    gate = files.read_json(tmp_path / NAME / "gate.json")
    assert gate["branch"] == "attribute"
    assert decided in (None, "attribute")


@pytest.mark.slow
def test_stop_a_second_driver_and_resume(tmp_path: Path, address: str) -> None:
    from cluster.cli.campaigns import stop_campaign

    prepare(tmp_path, ACCURACY, steps=1000, pause=0.2)
    process = driver(tmp_path, address=address)
    try:
        wait_for(lambda: steps(tmp_path, "full"), 90, "full starts")
        second = driver(tmp_path, address=address)
        assert second.wait(60) == 2
        assert "is being run by process" in (tmp_path / "driver.log").read_text()
        assert stop_campaign(tmp_path, NAME, 60) == 0
        assert process.wait(30) == 1, "what is not finished is no success"
    finally:
        end(process)
    log = (tmp_path / "driver.log").read_text()
    assert "not finished: full" in log
    statuses = [e["status"] for e in _spool(tmp_path, "full") if e["kind"] == "status"]
    assert statuses == ["RUNNING", "KILLED"]
    before = len(steps(tmp_path, "full"))
    prepare(tmp_path, ACCURACY, steps=before + 2)
    process = driver(tmp_path, address=address)
    try:
        assert process.wait(180) == 0, (tmp_path / "driver.log").read_text()
    finally:
        end(process)
    assert before + 2 <= len(steps(tmp_path, "full")) <= before + 3
    assert events(tmp_path, "end") == ["full", "B", "C"]


@pytest.mark.slow
def test_a_killed_trial_is_started_again_where_it_was(tmp_path: Path, address: str) -> None:
    prepare(tmp_path, {**ACCURACY, "full": 0.72}, steps=STEPS, pause=0.5)
    process = driver(tmp_path, address=address)
    try:
        wait_for(lambda: len(steps(tmp_path, "full")) >= 2, 90, "full has worked")
        os.kill(journal(tmp_path)[-1]["pid"], signal.SIGKILL)
        assert process.wait(180) == 0, (tmp_path / "driver.log").read_text()
    finally:
        end(process)
    assert events(tmp_path, "start") == ["full", "full"]
    assert len(steps(tmp_path, "full")) <= STEPS + 1


@pytest.mark.slow
def test_an_error_is_exit_code_1_and_interrupt_too(tmp_path: Path, address: str) -> None:
    prepare(tmp_path, ACCURACY, fail=["full"])
    process = driver(tmp_path, address=address)
    assert process.wait(120) == 1
    assert "RuntimeError: full cannot be run" in (tmp_path / "driver.log").read_text()


def _spool(storage: Path, variant: str) -> list[dict[str, object]]:
    (folder,) = (storage / NAME / "trials").glob(f"{variant}-*")
    return files.read_jsonl(folder / "events.jsonl")
