"""The one table of trials, from folders as trials leave them."""

from pathlib import Path

import pandas as pd
import pytest

from bridge_common.errors import UserError
from bridge_common.metric_names import CONDITIONS
from bridge_common.trial_folder import TrialFolder
from mlflow_utils.dataframes import from_folder
from ray_bridge import tiny
from tests.support import planned_trials
from tests.support.campaign_folder import make_campaign
from tune_spaces.design import phases
from tune_spaces.design.plan import make_plan
from tune_spaces.records.results_table import SETTINGS, export, results, trial_table

METRICS = {"accuracy/bridged": 0.5, "n": 120}


def begin(campaign: Path, variant: str, **changes: object) -> TrialFolder:
    spec = tiny(**changes)
    trial = TrialFolder.of(campaign, f"{variant}-00000000")
    about = {"variant": variant, "phase": "phase1", "seed": spec.seed, "fingerprint": "0" * 16, "run": {}}
    trial.begin({**about, "spec": spec.model_dump()})
    return trial


def finish(trial: TrialFolder, **facts: object) -> None:
    trial.samples_file.write_text("{}\n", encoding="utf-8")
    trial.write_result({"metrics": METRICS, "node_id": "n", "seconds": 3.0, "checkpoint": "selected", **facts})


def rows(campaign: Path, **options: object) -> dict[str, dict[str, object]]:
    table = trial_table(TrialFolder.begun_in(campaign), **options)  # type: ignore[arg-type]
    return {str(row["variant"]): {str(k): v for k, v in row.items()} for row in table.to_dict("records")}


def test_each_trial_is_a_row_with_its_spec_its_status_and_its_metrics(tmp_path: Path) -> None:
    finish(begin(tmp_path, "full", soft_tokens=8))
    begin(tmp_path, "B", kl_alignment=False, seed=3).write_error({"error": "RuntimeError: no", "attempt": "1"})
    begin(tmp_path, "C").samples_file.write_text("{}\n", encoding="utf-8")
    table = rows(tmp_path)
    full, failed, unfinished = table["full"], table["B"], table["C"]
    assert (full["name"], full["seed"], full["status"]) == ("full-00000000", 0, "finished")
    assert full["samples"] == str(tmp_path / "trials" / "full-00000000" / "samples.jsonl")
    assert (full["soft_tokens"], full["accuracy/bridged"], full["seconds"]) == (8, 0.5, 3.0)
    assert (full["node_id"], full["checkpoint"]) == ("n", "selected")
    assert "reused_from" in unfinished
    names = list(trial_table(TrialFolder.begun_in(tmp_path)))
    assert names.count("seed") == 1
    assert names.index("seed") < names.index("status") < names.index("reused_from") < names.index("soft_tokens")
    assert (failed["status"], failed["error"], failed["seed"]) == ("failed", "RuntimeError: no", 3)
    assert (failed["kl"], failed["decode"], failed["kl_alignment"]) == ("off", "on", False)
    assert unfinished["status"] == "unfinished"
    assert pd.isna(unfinished["samples"]), "samples count once there is a result"  # type: ignore[call-overload]
    assert pd.isna(failed["accuracy/bridged"])  # type: ignore[call-overload]


def test_a_field_that_was_added_later_has_its_default(tmp_path: Path) -> None:
    trial = begin(tmp_path, "full", pooling="attention")
    record = trial.spec()
    assert record is not None
    del record["spec"]["soft_position"]
    trial.begin(record)
    assert rows(tmp_path)["full"]["soft_position"] == tiny().soft_position


def test_further_columns_yield_to_what_the_result_says(tmp_path: Path) -> None:
    finish(begin(tmp_path, "full"), reused_from="elsewhere")
    begin(tmp_path, "B")
    more = {name: {"trial_id": name, "seconds": 99.0} for name in ("full-00000000", "B-00000000")}
    table = rows(tmp_path, fields=["task"], more=more)
    assert (table["full"]["seconds"], table["full"]["trial_id"]) == (3.0, "full-00000000")
    assert table["full"]["reused_from"] == "elsewhere"
    assert table["B"]["seconds"] == 99.0
    assert "task" in table["full"]
    assert "soft_tokens" not in table["full"]


def test_the_table_that_mlflow_shows_agrees_in_every_column_they_share(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, n=30)
    ours = trial_table(TrialFolder.begun_in(campaign)).sort_values("variant", ignore_index=True)
    theirs = from_folder(campaign).sort_values("variant", ignore_index=True)
    shared = [name for name in ours if name in theirs and name != "status"]  # MLflow's statuses are its own
    assert {"variant", "phase", "seed", "fingerprint", "folder", "kl_alignment", "gain", "n"} <= set(shared)
    assert len([name for name in shared if name.startswith("accuracy/")]) > len(CONDITIONS)
    pd.testing.assert_frame_equal(ours[shared], theirs[shared], check_dtype=False)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    finish(begin(tmp_path, "full"))
    table = trial_table(TrialFolder.begun_in(tmp_path))
    with pytest.raises(UserError, match="--format xlsx: use csv, parquet, json"):
        export(table, tmp_path / "t.xlsx", "xlsx")
    for kind, read in (("csv", pd.read_csv), ("json", pd.read_json), ("parquet", pd.read_parquet)):
        again = read(export(table, tmp_path / f"t.{kind}", kind))
        assert again["accuracy/bridged"].tolist() == [0.5]
        assert again["variant"].tolist() == ["full"]
        assert list(again) == list(table), "no column for the index"
    text = (tmp_path / "t.json").read_text()
    assert text.startswith('[\n  {\n    "name":"full-00000000",'), "one line a value, to be read and compared"


def test_results_of_a_plan_show_what_its_trials_differ_in(tmp_path: Path) -> None:
    planned = make_plan(phases.phase2(tiny()), tiny())
    folder = planned_trials.campaign(tmp_path)
    first, second, _ = (planned_trials.finish(folder, trial) for trial in planned.trials.values())
    (second.path / "spec.json").unlink()
    TrialFolder.of(folder.path, "of-another-plan").begin(first.spec() or {})
    table = results(folder, planned, {first.name: {"trial_id": "t1"}})
    assert table["variant"].tolist() == ["swap", "hybrid-adapter"]
    assert table["node_id"].tolist() == ["n", "n"]
    assert table["trial_id"].tolist()[0] == "t1"
    changed = {"source", "target", "injection"}
    assert changed | set(SETTINGS) <= set(table)
    assert table["seed"].tolist() == [0, 0]
    assert "steps" not in table
    assert table["kl"].tolist() == ["on", "on"]
    assert "kl_alignment" not in table, "a toggle has its own column"


def test_costs_and_timings_are_columns(tmp_path: Path) -> None:
    trial = begin(tmp_path, "full")
    trial.samples_file.write_text("{}\n", encoding="utf-8")
    trial.write_result({"metrics": {"cost/flops/bridged": 5.0}, "timings": {"cost/seconds/bridged": 0.25}})
    full = rows(tmp_path)["full"]
    assert (full["cost/flops/bridged"], full["cost/seconds/bridged"]) == (5.0, 0.25)
