"""Declarations and event logs arrive in an SQLite store, also after interruptions and losses."""

import gc
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge_common import files
from mlflow_utils import declarations, names
from mlflow_utils.sync.points import Point, SeenPoints
from mlflow_utils.sync.store import Store
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
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
from tests.support.waiting import wait_for


def test_a_campaign_arrives_completely(storage: Path) -> None:
    campaign, uri = make_campaign(storage), default_tracking_uri(storage)
    record(uri, campaign)
    by_variant = mlflow_records.trials(uri)
    assert sorted(by_variant) == ["A", "B", "C", "full"]
    (parent,) = [run for run in mlflow_records.runs(uri) if run.data.tags["kind"] == "phase"]
    assert (parent.info.run_name, parent.info.status, parent.data.params) == ("phase1", "FINISHED", {"bridge": "dit"})
    mlflow = mlflow_records.client(uri)
    assert {file.path for file in mlflow.list_artifacts(parent.info.run_id)} >= {
        "campaign.json",
        "plan.json",
        "gate.json",
    }
    for name, run in by_variant.items():
        (folder,) = (campaign / "trials").glob(f"{name}-*")
        sent = mlflow_records.without_totals(mlflow_records.points(uri, run.info.run_id))
        assert sent == mlflow_records.logged_points(folder)
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
        local = Path(mlflow.download_artifacts(run.info.run_id, "samples.jsonl", str(storage)))
        assert local.read_bytes() == (folder / "samples.jsonl").read_bytes()
    assert list((storage / "mlartifacts").iterdir()), "artifacts are beside the database"


def test_no_phase_ends_before_the_next_has_begun(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows by the server alone would take a campaign for ended between its two phases."""
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
    set_status, seen = Store.set_status, []

    def observed(store: Store, run_id: str, status: str, ended: int | None) -> None:
        kinds = [run.data.tags["kind"] for run in mlflow_records.runs(uri)]
        seen.append((status, kinds.count("phase")))
        set_status(store, run_id, status, ended)

    monkeypatch.setattr(Store, "set_status", observed)
    tracker = Tracker(uri, "demo", campaign)
    for phase in ("phase1", "phase1.5"):
        tracker.phase(phase, {}, {})
        tracker.finish(phase, "FINISHED")
    assert tracker.close(5) is None
    assert Tracker.replay(uri, "demo", campaign) is None
    assert len(seen) >= 2
    assert set(seen) == {("FINISHED", 2)}


def test_replaying_changes_nothing_and_losing_the_state_files_duplicates_nothing(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
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


def test_trials_that_mlflow_has_whole_hold_no_points(storage: Path) -> None:
    """A driver may follow hundreds of trials of 60,000 points each."""

    def everywhere() -> list[object]:
        return [each for each in gc.get_objects() if isinstance(each, SeenPoints | Point)]

    of_other_tests = everywhere()  # held here, so that no other object gets their ids
    known = set(map(id, of_other_tests))
    campaign, uri = make_campaign(storage, variants=["full", "B"]), default_tracking_uri(storage)
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    folders = sorted((campaign / "trials").iterdir())
    for folder in folders:
        declare(tracker, folder)

    def whole(folder: Path) -> bool:
        sent = folder / "events.sent.json"
        return sent.exists() and all(each["status"] == "FINISHED" for each in files.read_json(sent).values())

    def held() -> list[object]:
        return [each for each in everywhere() if id(each) not in known]

    wait_for(lambda: all(map(whole, folders)), 60, "they are sent")
    wait_for(lambda: not held(), 10, "nothing is held")
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    assert {run.info.status for run in mlflow_records.runs(uri)} == {"FINISHED"}


def test_a_replay_needs_only_the_folders_of_the_trials(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full", "B"]), default_tracking_uri(storage)
    assert Tracker.replay(uri, "demo", campaign) is None
    by_variant = mlflow_records.trials(uri)
    assert by_variant["B"].data.params["decode_aware"] == "False"
    assert by_variant["full"].data.params["decode_aware"] == "True"
    assert {run.info.status for run in by_variant.values()} == {"FINISHED"}


def test_another_or_an_emptied_store_gets_everything(storage: Path) -> None:
    campaign = make_campaign(storage, variants=["full"])
    for uri in (default_tracking_uri(storage), f"sqlite:///{storage}/other.db"):
        record(uri, campaign)
        assert len(mlflow_records.runs(uri)) == 2
    (storage / "other.db").unlink()
    assert Tracker.replay(uri, "demo", campaign) is None
    (run,) = mlflow_records.trials(uri).values()
    assert sum(mlflow_records.logged_points(Path(run.data.tags["folder"])).values()) == sum(
        mlflow_records.without_totals(mlflow_records.points(uri, run.info.run_id)).values()
    ), "a store that was emptied gets everything again"


def test_a_store_that_lost_its_runs_is_noticed_although_nothing_is_new(storage: Path) -> None:
    """The state files say that all was sent, so no request would ever meet the missing run."""
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
    empty = storage / "empty.db"
    shutil.copy(storage / "mlflow.db", empty)
    record(uri, campaign)
    record(uri, campaign)
    assert len(mlflow_records.runs(uri)) == 2, "a phase and its trial"
    shutil.copy(empty, storage / "mlflow.db")
    record(uri, campaign)
    assert len(mlflow_records.runs(uri)) == 2
    (folder,) = (campaign / "trials").iterdir()
    (run,) = mlflow_records.trials(uri).values()
    sent = mlflow_records.without_totals(mlflow_records.points(uri, run.info.run_id))
    assert sent == mlflow_records.logged_points(folder)


def test_a_trial_whose_run_alone_was_lost_gets_another(storage: Path) -> None:
    """As after `mlflow gc`: the phase has its run, and of the trial all was sent."""
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
    record(uri, campaign)
    record(uri, campaign)
    (lost,) = mlflow_records.trials(uri).values()
    mlflow = mlflow_records.client(uri)
    mlflow.delete_run(lost.info.run_id)
    mlflow._tracking_client.store._hard_delete_run(lost.info.run_id)
    record(uri, campaign)
    (run,) = mlflow_records.trials(uri).values()
    assert run.info.run_id != lost.info.run_id
    (folder,) = (campaign / "trials").iterdir()
    sent = mlflow_records.without_totals(mlflow_records.points(uri, run.info.run_id))
    assert sent == mlflow_records.logged_points(folder)


def test_a_finished_trial_keeps_the_provenance_of_what_ran_it(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, uri = make_campaign(storage), default_tracking_uri(storage)
    for job in ("raysubmit_1", "raysubmit_2"):
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": job}}))
        record(uri, campaign)
    tags = {run.data.tags["kind"]: run.data.tags[names.RAY_JOB] for run in mlflow_records.runs(uri)}
    assert tags == {"phase": "raysubmit_2", "trial": "raysubmit_1"}


def test_a_resumed_trial_continues_its_run(storage: Path) -> None:
    campaign, uri = storage / "demo", default_tracking_uri(storage)
    folder = begin_trial(campaign, "full")
    emit(folder, status_event("RUNNING"), *(step_event(step, START + step) for step in range(1, 31)))
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    declare(tracker, folder)
    assert tracker.close(60) is None
    (run,) = mlflow_records.trials(uri).values()
    assert run.info.status == "KILLED", "the driver ended and with it the trial"

    # From a checkpoint at step 20: steps 21 to 30 are repeated.
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


def test_metrics_of_the_result_that_the_events_lack_are_recorded(storage: Path) -> None:
    campaign, uri = storage / "demo", default_tracking_uri(storage)
    folder = make_trial(campaign, "full")
    result = files.read_json(folder / "result.json")
    result["metrics"] |= {"accuracy/bridged": 0.5, "only_here": 3.0}
    files.write_json(folder / "result.json", result)
    record(uri, campaign)
    (run,) = mlflow_records.trials(uri).values()
    assert (run.data.metrics["accuracy/bridged"], run.data.metrics["detail/only_here"]) == (0.5, 3.0)


def test_parameters_that_change_are_recorded_in_a_tag(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
    record(uri, campaign)
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {"bridge": "resampler", "new": 1}, {})
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    (parent,) = [run for run in mlflow_records.runs(uri) if run.data.tags["kind"] == "phase"]
    assert parent.data.params == {"bridge": "dit", "new": "1"}
    assert parent.data.tags["params_changed"] == "bridge=resampler"


def test_a_parameter_that_is_too_long_says_that_it_is_cut(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=[]), default_tracking_uri(storage)
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {"prompt": "x" * 7000}, {})
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    (parent,) = mlflow_records.runs(uri)
    assert parent.data.params["prompt"].endswith("xx [cut: 7000 characters]")


def test_a_run_is_named_with_its_seed_and_says_what_it_is_for_and_what_came_out(storage: Path) -> None:
    campaign, uri = storage / "demo", default_tracking_uri(storage)
    folder = make_trial(campaign, "full", seed=3)
    emit(folder, {"kind": "tags", "time": START, "values": {"torch": "2.11.0", "python": "3.12.1", "gpu": "H200"}})
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    tracker.trial(
        folder, phase="phase1", name="full", fingerprint="f" * 16, params={},
        tags={"seed": 3, "mlflow.note.content": "all toggles on"},
    )  # fmt: skip
    tracker.describe("phase1", "**passed**")
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    assert Tracker.replay(uri, "demo", campaign) is None
    (run,) = mlflow_records.trials(uri).values()
    assert run.info.run_name == "full (seed 3)"
    purpose, outcome = run.data.tags["mlflow.note.content"].split("\n\n")
    assert purpose == "all toggles on"
    assert outcome.startswith(f"bridged **{run.data.metrics['accuracy/bridged']:.1%}** [")
    assert "of 120 items; gain +" in outcome
    (parent,) = [run for run in mlflow_records.runs(uri) if run.data.tags["kind"] == "phase"]
    assert parent.data.tags["mlflow.note.content"] == "**passed**"
    assert run.data.tags["version.torch"] == "2.11.0", "the job's own, not the driver's"
    assert not {"torch", "python", "transformers"} & set(run.data.tags), "no version twice"


def test_points_that_mlflow_refuses_do_not_block_others(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full", "B"]), default_tracking_uri(storage)
    (folder,) = (campaign / "trials").glob("full-*")
    before = mlflow_records.logged_points(folder)
    emit(folder, {"kind": "metrics", "time": -5.0, "step": 41, "values": {"loss/total": 1.0}})
    emit(folder, {"kind": "metrics", "time": START, "step": 42, "values": {"wéird name!": float("inf"), "late": 2.0}})
    emit(folder, {"kind": "artifact", "time": START, "path": "../../../../etc/hostname"})
    declarations.append(campaign, "artifact", "phase1", path="/etc/hostname")
    record(uri, campaign)
    phase = next(run for run in mlflow_records.runs(uri, campaign.name) if run.data.tags["kind"] == "phase")
    assert "hostname" not in {file.path for file in mlflow_records.client(uri).list_artifacts(phase.info.run_id)}
    by_variant = mlflow_records.trials(uri)
    points = mlflow_records.points(uri, by_variant["full"].info.run_id)
    assert not before - points
    assert points["late", 42, 2.0] == 1
    assert [name for name, *_ in points if name.startswith("w")] == ["w_ird name_"]
    assert by_variant["B"].info.status == "FINISHED"
    paths = {file.path for file in mlflow_records.client(uri).list_artifacts(by_variant["full"].info.run_id)}
    assert paths == {"spec.json", "samples.jsonl", "metrics.json", "result.json"}


@pytest.mark.timeout(60)  # MLflow itself would try again for minutes
def test_without_a_store_the_driver_is_not_blocked_and_close_reports_what_is_unsent(storage: Path) -> None:
    campaign = make_campaign(storage)
    uri = "http://127.0.0.1:9"
    tracker = Tracker(uri, "demo", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    for folder in (campaign / "trials").iterdir():
        declare(tracker, folder)
    tracker.finish("phase1", "FINISHED")
    unsent = tracker.close(1.0)
    assert unsent is not None
    logged = sum(sum(mlflow_records.logged_points(folder).values()) for folder in (campaign / "trials").iterdir())
    assert (unsent.trials, unsent.points) == (4, logged)
    assert str(campaign) in str(unsent)
    other = default_tracking_uri(storage)
    assert Tracker.replay(other, "demo", campaign) is None
    assert len(mlflow_records.trials(other)) == 4


def test_one_process_at_a_time_sends_a_campaign(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
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


def test_without_mlflow_installed_a_campaign_is_declared_for_later(
    storage: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
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


def test_importing_and_constructing_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from mlflow_utils.tracker import Tracker\n"
        "import mlflow_utils.server, mlflow_utils.reports.markdown\n"
        f"t = Tracker('http://127.0.0.1:9', 'demo', {str(tmp_path)!r}); t.phase('p', {{}}, {{}})\n"
        "print([m for m in ('mlflow', 'torch', 'ray', 'pandas', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_moved_campaign_keeps_its_runs(tmp_path: Path) -> None:
    campaign, uri = make_campaign(tmp_path, variants=["full"]), f"sqlite:///{tmp_path}/mlflow.db"
    record(uri, campaign)
    moved = tmp_path / "elsewhere" / "demo"
    moved.parent.mkdir()
    shutil.move(campaign, moved)
    assert Tracker.replay(uri, "demo", moved) is None
    assert len(mlflow_records.runs(uri)) == 2
