"""A campaign's folder and MLflow give the same table of trials."""

from pathlib import Path

import pandas as pd
import pytest

from bridge_common.errors import UserError
from mlflow_utils import dataframes
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaign_folder import (
    START,
    TOGGLES,
    begin_trial,
    emit,
    make_campaign,
    make_trial,
    status_event,
    step_event,
)


def test_the_folder_alone_gives_one_row_per_trial(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, n=300)
    frame = dataframes.from_folder(campaign).set_index("variant")
    assert sorted(frame.index) == ["A", "B", "C", "full"]
    assert set(frame.status) == {"FINISHED"}
    assert frame.loc["C", list(TOGGLES)].tolist() == [True, True, True, False]
    row = frame.loc["full"]
    assert row["accuracy_low/bridged"] < row["accuracy/bridged"] < row["accuracy_high/bridged"]
    assert row["gain"] == pytest.approx(row["accuracy/bridged"] - row["accuracy/target_alone"])
    assert row["gpu_hours"] == 0.1
    assert row["started"] == pd.Timestamp(START, unit="s", tz="UTC")
    assert not [name for name in frame.columns if name.startswith(("loss/", "grad_norm", "lr"))]


def test_mlflow_gives_the_same_table(storage: Path) -> None:
    campaign, uri = make_campaign(storage), default_tracking_uri(storage)
    make_trial(campaign, "E", status="FAILED", seed=3)
    assert Tracker.replay(uri, "demo", campaign) is None
    folder, mlflow = dataframes.from_folder(campaign), dataframes.from_mlflow(uri, "demo")
    order = ["phase", "variant"]
    pd.testing.assert_frame_equal(
        folder.sort_values(order, ignore_index=True), mlflow.sort_values(order, ignore_index=True), check_like=True
    )


def test_runs_of_earlier_versions_whose_metrics_have_no_prefixes_are_read_as_before(storage: Path) -> None:
    uri = default_tracking_uri(storage)
    mlflow = mlflow_records.client(uri)
    tags = {"kind": "trial", "phase": "phase1", "variant": "full", "seed": "0", "fingerprint": "f" * 16}
    run = mlflow.create_run(mlflow.create_experiment("old"), tags=tags, run_name="full")
    for name, value in (("accuracy/bridged", 0.7), ("flexible/bridged", 0.8), ("loss/total", 1.5), ("loss/flow", 2.0)):
        mlflow.log_metric(run.info.run_id, name, value)
    (row,) = dataframes.from_mlflow(uri, "old").to_dict("records")
    assert (row["accuracy/bridged"], row["flexible/bridged"]) == (0.7, 0.8)
    assert not [name for name in row if name.startswith("loss/")]


def test_the_history_has_every_step_once_also_after_a_resume(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, variants=["full"], steps=20)
    folder = begin_trial(campaign, "B", seed=1)
    emit(folder, status_event("RUNNING"), *(step_event(step, START + step) for step in range(1, 11)))
    emit(folder, *(step_event(step, START + 50 + step) for step in range(6, 16)))
    history = dataframes.history(campaign, ["loss/", "lr"])
    assert history.groupby("variant").step.apply(list).to_dict() == {
        "B": list(range(1, 16)),
        "full": list(range(1, 21)),
    }
    assert set(history.columns) == {"phase", "variant", "seed", "fingerprint", "step", "lr"} | {
        name for name in step_event(1, 0)["values"] if name.startswith("loss/")
    }
    first = history[(history.variant == "full") & (history.step == 1)].iloc[0]
    assert first["loss/total"] == step_event(1, 0)["values"]["loss/total"]
    assert "accuracy/bridged" in dataframes.history(campaign).columns


def test_trials_that_run_or_never_ran_have_the_status_of_their_phase(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, variants=[])
    begin_trial(campaign, "full")
    running = begin_trial(campaign, "B")
    emit(running, status_event("RUNNING"), step_event(1, START + 1))
    frame = dataframes.from_folder(campaign)
    assert sorted(zip(frame.variant, frame.status, strict=True)) == [("B", "RUNNING"), ("full", "RUNNING")]
    tracker = Tracker("http://127.0.0.1:9", "demo", campaign)
    tracker.phase("phase1", {}, {})
    tracker.finish("phase1", "KILLED")
    assert set(dataframes.from_folder(campaign).status) == {"KILLED"}


def test_a_missing_campaign_is_an_error_and_an_empty_one_has_the_columns(storage: Path) -> None:
    with pytest.raises(UserError, match="no campaign"):
        dataframes.from_folder(storage / "none")
    with pytest.raises(UserError, match="no campaign"):
        dataframes.from_mlflow(default_tracking_uri(storage), "none")
    assert list(dataframes.from_folder(make_campaign(storage, variants=[])).columns) == list(dataframes.IDENTITY)


def test_a_parameter_with_the_name_of_a_metric_gets_a_prefix(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, variants=["full"])
    (folder,) = (campaign / "trials").iterdir()
    tracker = Tracker("http://127.0.0.1:9", "demo", campaign)
    tracker.trial(folder, phase="phase1", name="full", fingerprint="f" * 16, params={"n": 5, "bridge": "dit"}, tags={})
    (row,) = dataframes.from_folder(campaign).to_dict("records")
    assert (row["n"], row["param.n"], row["bridge"]) == (120, 5, "dit")
