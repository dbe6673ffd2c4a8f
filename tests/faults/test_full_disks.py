"""Disks that fill up where samples, reports or the record of MLflow are written."""

from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from tests.support import mlflow_records
from tests.support.campaigns import NAME, driver_log, events, prepare, steps
from tests.support.command_line import call_here
from tests.support.disks import fill
from tests.support.faults import assert_as_undisturbed, driving, trial_of
from tests.support.mlflow_store import copy_database
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
STEPS = 20


def test_samples_that_do_not_fit_are_the_last_line_though_some_room_is_left(
    disk: Path, tmp_path: Path, mlflow_database: Path, ray_head: Any
) -> None:
    storage, log = disk / "runs", tmp_path / "log"
    copy_database(mlflow_database, tmp_path)
    others = ("--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--reports", str(tmp_path / "reports"))
    prepare(storage, {"full": 0.75}, steps=STEPS, pause=0.3, samples=True)
    with driving(storage, *others, address=ray_head.address, log=log) as process:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "full has worked")
        zeros = fill(disk, leave=3 << 19)  # 1.5 MiB, and the samples have more
        assert process.wait(240) == 1, log.read_text()
    last = log.read_text().splitlines()[-1]
    assert last.startswith(f"error: disk full: {storage}: free some space, then `resume` goes on"), log.read_text()
    assert not (trial_of(storage).path / "samples.jsonl").exists(), "no part of them"
    zeros.unlink()
    with driving(storage, *others, address=ray_head.address, log=log) as process:
        assert process.wait(240) == 0, log.read_text()
    assert steps(storage, "full") == list(range(STEPS)), "no step is done twice"
    assert len(files.read_jsonl(trial_of(storage).path / "samples.jsonl")) == 10_000


def test_reports_that_do_not_fit_are_a_warning_and_written_later(disk: Path, storage: Path, ray_head: Any) -> None:
    prepare(storage, {"full": 0.75}, steps=STEPS)
    reports = disk / "reports"
    reports.mkdir()
    zeros = fill(disk)
    with driving(storage, "--reports", str(reports), address=ray_head.address) as process:
        assert process.wait(240) == 0, driver_log(storage)
    lines = [line for line in driver_log(storage).splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1, driver_log(storage)
    assert str(reports) in lines[0]
    assert "No space left on device" in lines[0]
    assert_as_undisturbed(storage, STEPS)
    zeros.unlink()
    done = call_here("report", "--storage", str(storage), "--out", str(reports))
    assert done.returncode == 0, done.stderr
    assert "full" in (reports / "LOG.md").read_text()


def test_points_that_mlflow_has_no_room_for_are_kept_and_sent_later(
    disk: Path, tmp_path: Path, mlflow_database: Path, ray_head: Any
) -> None:
    storage = tmp_path / "runs"
    uri = f"sqlite:///{copy_database(mlflow_database, disk) / 'mlflow.db'}"
    prepare(storage, {"full": 0.75}, steps=STEPS, pause=0.3)
    with driving(storage, "--tracking-uri", uri, address=ray_head.address) as process:
        wait_for(lambda: len(steps(storage, "full")) >= 2, 240, "full has worked")
        zeros = fill(disk)
        assert process.wait(300) == 0, driver_log(storage)
    (line,) = [line for line in driver_log(storage).splitlines() if "are not in MLflow yet" in line]
    assert "sent by the next `resume` or `report`" in line
    assert events(storage, "end") == ["full"]
    zeros.unlink()
    done = call_here("report", "--storage", str(storage), "--out", str(tmp_path / "reports"))
    assert done.returncode == 0, done.stderr
    (run,) = mlflow_records.trials(uri, NAME).values()
    assert run.info.status == "FINISHED"
    sent = mlflow_records.points(uri, run.info.run_id)
    logged = mlflow_records.logged_points(trial_of(storage).path)
    assert len(logged) == STEPS
    assert {point: sent[point] for point in logged} == logged, "each point, once"
