"""From declarations and spools to an SQLite store, and again after everything that can come between."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.errors import UserError
from mlflow_utils.tracker import Tracker, check, default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaign_folder import (
    START,
    TOGGLES,
    begin_trial,
    emit,
    end_trial,
    make_campaign,
    make_trial,
    status_event,
    step_event,
)
from tests.support.tracked_campaigns import declare, record


def test_a_campaign_arrives_whole(tmp_path: Path) -> None:
    campaign, uri = make_campaign(tmp_path), default_tracking_uri(tmp_path)
    record(uri, campaign)
    found = mlflow_records.trials(uri)
    assert sorted(found) == ["A", "B", "C", "full"]
    (parent,) = [run for run in mlflow_records.runs(uri) if run.data.tags["kind"] == "phase"]
    assert (parent.info.run_name, parent.info.status, parent.data.params) == ("phase1", "FINISHED", {"bridge": "dit"})
    mlflow = mlflow_records.client(uri)
    assert {file.path for file in mlflow.list_artifacts(parent.info.run_id)} >= {
        "campaign.json",
        "plan.json",
        "gate.json",
    }
    for name, run in found.items():
        (folder,) = (campaign / "trials").glob(f"{name}-*")
        assert mlflow_records.as_spooled(mlflow_records.points(uri, run.info.run_id)) == mlflow_records.spooled(folder)
        assert run.data.params == {t: str(files.read_json(folder / "spec.json")["spec"][t]) for t in TOGGLES}
        assert run.data.metrics["gpu_hours"] == 90 * 4 / 3600
        assert run.info.status == "FINISHED"
        assert run.info.start_time == START * 1000
        tags = run.data.tags
        assert (tags["mlflow.parentRunId"], tags["seed"], tags["gpu"], tags["node"]) == (
            parent.info.run_id,
            "0",
            "H200",
            "f00d",
        )
        assert tags["checkpoint"].endswith("checkpoint_000003")
        assert tags["version.torch"]
        paths = {file.path for file in mlflow.list_artifacts(run.info.run_id)}
        assert paths == {"spec.json", "samples.jsonl", "metrics.json", "result.json"}
        local = Path(mlflow.download_artifacts(run.info.run_id, "samples.jsonl", str(tmp_path)))
        assert local.read_bytes() == (folder / "samples.jsonl").read_bytes()
    assert list((tmp_path / "mlartifacts").iterdir()), "artifacts lie beside the database"


def test_a_second_sending_changes_nothing_and_a_lost_memory_makes_nothing_twice(tmp_path: Path) -> None:
    campaign, uri = make_campaign(tmp_path, variants=["full"]), default_tracking_uri(tmp_path)
    record(uri, campaign)
    before = [(run.info.run_id, mlflow_records.points(uri, run.info.run_id)) for run in mlflow_records.runs(uri)]
    assert Tracker.replay(uri, "demo", campaign) is None
    (folder,) = (campaign / "trials").iterdir()
    (campaign / "tracking.sent.json").unlink()
    (folder / "events.sent.json").unlink()
    assert Tracker.replay(uri, "demo", campaign) is None
    assert [
        (run.info.run_id, mlflow_records.points(uri, run.info.run_id)) for run in mlflow_records.runs(uri)
    ] == before


def test_a_replay_needs_no_more_than_the_trials_folders(tmp_path: Path) -> None:
    campaign, uri = make_campaign(tmp_path, variants=["full", "B"]), default_tracking_uri(tmp_path)
    assert Tracker.replay(uri, "demo", campaign) is None
    found = mlflow_records.trials(uri)
    assert found["B"].data.params["decode_aware"] == "False"
    assert found["full"].data.params["decode_aware"] == "True"
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_another_store_gets_everything_too(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, variants=["full"])
    for uri in (default_tracking_uri(tmp_path), f"sqlite:///{tmp_path}/other.db"):
        record(uri, campaign)
        assert len(mlflow_records.runs(uri)) == 2
    (tmp_path / "other.db").unlink()
    assert Tracker.replay(uri, "demo", campaign) is None
    (run,) = mlflow_records.trials(uri).values()
    assert sum(mlflow_records.spooled(Path(run.data.tags["folder"])).values()) == sum(
        mlflow_records.as_spooled(mlflow_records.points(uri, run.info.run_id)).values()
    ), "a store that was emptied gets everything again"


def test_a_resumed_trial_goes_on_in_its_run(tmp_path: Path) -> None:
    campaign, uri = tmp_path / "demo", default_tracking_uri(tmp_path)
    folder = begin_trial(campaign, "full")
    emit(folder, status_event("RUNNING"), *(step_event(step, START + step) for step in range(1, 31)))
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    declare(tracker, folder)
    assert tracker.close(60) is None
    (run,) = mlflow_records.trials(uri).values()
    assert run.info.status == "KILLED", "the driver ended and with it the trial"

    # From a checkpoint at step 20: steps 21 to 30 are done again.
    emit(folder, status_event("RUNNING", START + 100))
    emit(folder, *(step_event(step, START + 100 + step) for step in range(21, 41)))
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    declare(tracker, folder)
    deadline = time.monotonic() + 30
    while mlflow_records.trials(uri)["full"].info.status != "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert mlflow_records.trials(uri)["full"].info.status == "RUNNING"
    end_trial(folder, steps=40)
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    (again,) = mlflow_records.trials(uri).values()
    assert again.info.run_id == run.info.run_id
    assert {other.info.status for other in mlflow_records.runs(uri)} == {"FINISHED"}
    history = mlflow_records.client(uri).get_metric_history(run.info.run_id, "loss/total")
    assert [metric.step for metric in history] == list(range(1, 41))


def test_a_run_shows_what_the_result_says_where_the_events_lack_it(tmp_path: Path) -> None:
    campaign, uri = tmp_path / "demo", default_tracking_uri(tmp_path)
    folder = make_trial(campaign, "full")
    result = files.read_json(folder / "result.json")
    result["metrics"] |= {"accuracy/bridged": 0.5, "only_here": 3.0}
    files.write_json(folder / "result.json", result)
    record(uri, campaign)
    (run,) = mlflow_records.trials(uri).values()
    assert (run.data.metrics["accuracy/bridged"], run.data.metrics["only_here"]) == (0.5, 3.0)


def test_parameters_that_change_are_named_instead_of_failing(tmp_path: Path) -> None:
    campaign, uri = make_campaign(tmp_path, variants=["full"]), default_tracking_uri(tmp_path)
    record(uri, campaign)
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {"bridge": "resampler", "new": 1}, {})
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    (parent,) = [run for run in mlflow_records.runs(uri) if run.data.tags["kind"] == "phase"]
    assert parent.data.params == {"bridge": "dit", "new": "1"}
    assert parent.data.tags["params_changed"] == "bridge=resampler"


def test_what_mlflow_refuses_holds_up_nothing_else(tmp_path: Path) -> None:
    campaign, uri = make_campaign(tmp_path, variants=["full", "B"]), default_tracking_uri(tmp_path)
    (folder,) = (campaign / "trials").glob("full-*")
    before = mlflow_records.spooled(folder)
    emit(folder, {"kind": "metrics", "time": -5.0, "step": 41, "values": {"loss/total": 1.0}})
    emit(folder, {"kind": "metrics", "time": START, "step": 42, "values": {"wéird name!": float("inf"), "late": 2.0}})
    emit(folder, {"kind": "artifact", "time": START, "path": "../../../../etc/hostname"})
    record(uri, campaign)
    found = mlflow_records.trials(uri)
    points = mlflow_records.points(uri, found["full"].info.run_id)
    assert not before - points
    assert points["late", 42, 2.0] == 1
    assert [name for name, *_ in points if name.startswith("w")] == ["w_ird name_"]
    assert found["B"].info.status == "FINISHED"
    paths = {file.path for file in mlflow_records.client(uri).list_artifacts(found["full"].info.run_id)}
    assert paths == {"spec.json", "samples.jsonl", "metrics.json", "result.json"}


def test_the_driver_waits_for_nothing_and_the_rest_is_reported(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path)
    uri = "http://127.0.0.1:9"
    begin = time.monotonic()
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    for folder in (campaign / "trials").iterdir():
        declare(tracker, folder)
    tracker.finish("phase1", "FINISHED")
    assert time.monotonic() - begin < 2
    unsent = tracker.close(1.0)
    assert time.monotonic() - begin < 5
    assert unsent is not None
    spooled = sum(sum(mlflow_records.spooled(folder).values()) for folder in (campaign / "trials").iterdir())
    assert (unsent.trials, unsent.points) == (4, spooled)
    assert str(campaign) in str(unsent)
    other = default_tracking_uri(tmp_path)
    assert Tracker.replay(other, "demo", campaign) is None
    assert len(mlflow_records.trials(other)) == 4


def test_two_processes_do_not_send_the_same_campaign_at_once(tmp_path: Path) -> None:
    campaign, uri = make_campaign(tmp_path, variants=["full"]), default_tracking_uri(tmp_path)
    holder = (
        "import sys, time; from filelock import FileLock\n"
        "lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", holder, str(campaign / ".tracking.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        unsent = Tracker.replay(uri, "demo", campaign, timeout=1.5)
        process.kill()
    assert unsent is not None
    assert "another process" in unsent.reason
    assert Tracker.replay(uri, "demo", campaign) is None


def test_without_mlflow_a_campaign_runs_and_is_declared_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    campaign, uri = make_campaign(tmp_path, variants=["full"]), default_tracking_uri(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        tracker = Tracker(uri, "demo", campaign)
        tracker.start()
        tracker.phase("phase1", {"bridge": "dit"}, {})
        (folder,) = (campaign / "trials").iterdir()
        declare(tracker, folder)
        tracker.finish("phase1", "FINISHED")
        assert tracker.close(5) is None
    assert [record.message for record in caplog.records if "not installed" in record.message]
    assert Tracker.replay(uri, "demo", campaign) is None
    assert len(mlflow_records.trials(uri)) == 1


def test_importing_and_constructing_is_light(tmp_path: Path) -> None:
    code = (
        "import sys; from mlflow_utils.tracker import Tracker\n"
        "import mlflow_utils.server, mlflow_utils.reports.markdown\n"
        f"t = Tracker('http://127.0.0.1:9', 'demo', {str(tmp_path)!r}); t.phase('p', {{}}, {{}})\n"
        "print([m for m in ('mlflow', 'torch', 'ray', 'pandas', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_moved_campaign_is_still_known(tmp_path: Path) -> None:
    campaign, uri = make_campaign(tmp_path, variants=["full"]), f"sqlite:///{tmp_path}/mlflow.db"
    record(uri, campaign)
    moved = tmp_path / "elsewhere" / "demo"
    moved.parent.mkdir()
    shutil.move(campaign, moved)
    assert Tracker.replay(uri, "demo", moved) is None
    assert len(mlflow_records.runs(uri)) == 2


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:9", "no MLflow server"),
        ("http://[", "no MLflow server"),
        ("file:///mlruns", "cannot track"),
        ("mlruns", "cannot track"),
        ("sqlite:////no/such/folder/x.db", "does not exist"),
        ("sqlite:///{tmp}/broken.db", "not a usable SQLite"),
    ],
)
def test_a_store_that_cannot_be_is_said_at_once(tmp_path: Path, uri: str, message: str) -> None:
    (tmp_path / "broken.db").write_text("this is not a database, by any means" * 100)
    begin: Any = time.monotonic()
    with pytest.raises(UserError, match=message):
        check(uri.format(tmp=tmp_path))
    assert time.monotonic() - begin < 5


def test_a_usable_store_is_accepted(tmp_path: Path) -> None:
    check(default_tracking_uri(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as database:
        port = database.getsockname()[1]
        check(f"postgresql+json://me:secret@127.0.0.1:{port}/runs")  # json stands for an installed driver
    with pytest.raises(UserError, match=f"no database answers at 127.0.0.1:{port}") as caught:
        check(f"postgresql+json://me:secret@127.0.0.1:{port}/runs")
    assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="pip install no_such_driver"):
        check("postgresql+no_such_driver://me@127.0.0.1/runs")
