"""What runs after `full`, on a real Ray with the real stopper and searcher: what the branch asks for, nothing else.

The exact boundaries of the branches are tested in `tune_spaces/gate`, without Ray.
"""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bridge_common import files
from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny, tiny_run
from tests.support.campaigns import DIRECT, campaign, events, prepare
from tune_spaces.appendix.from_campaign import campaign_appendix
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase, phase1
from tune_spaces.design.variants import full
from tune_spaces.gate.decision import GateSettings, Mode

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("connected_ray")]
OTHERS = {"A": 0.6, "B": 0.61, "C": 0.62}
BRANCHES = {0.72: ["full"], 0.67: ["full", "B", "C"], 0.50: ["full", "A", "B", "C"]}


@pytest.fixture(scope="module")
def storage_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Return a function that runs phase 1 with an accuracy of `full`, once for each, and returns its storage."""

    @cache
    def run(accuracy: float) -> Path:
        storage = tmp_path_factory.mktemp("storage")
        prepare(storage, {"full": accuracy, **OTHERS})
        assert campaign(storage).run(DIRECT).finished
        return storage

    return run


@pytest.mark.parametrize("accuracy", BRANCHES)
def test_the_branch_and_nothing_else_is_run_and_listed(storage_of: Callable[[float], Path], accuracy: float) -> None:
    storage, ran = storage_of(accuracy), BRANCHES[accuracy]
    asked = campaign(storage)
    assert events(storage, "start") == events(storage, "end") == ran
    frame = asked.results()
    assert sorted(frame["variant"]) == sorted(ran)
    assert set(frame["status"]) == {"finished"}
    assert frame.set_index("variant")["accuracy/bridged"]["full"] == accuracy
    assert sorted(path.name.split("-")[0] for path in (asked.folder / "trials").iterdir()) == sorted(ran)
    gate = files.read_json(asked.folder / "gate.json")
    assert gate["passed"] is (accuracy == 0.72)
    assert len(gate["decisions"]) == 1
    # Tune holds no statistics of ended trials: its last snapshot of the experiment has none.
    (snapshot,) = (asked.folder / "tune").glob("*/experiment_state-*.json")
    listed = [json.loads(metadata) for _, metadata in files.read_json(snapshot)["trial_data"]]
    assert [trial["metric_n_steps"] for trial in listed] == [{}] * len(ran)
    assert all(trial["last_result"]["final"] for trial in listed)


def test_the_gate_is_on_disk_while_trials_follow_it(tmp_path: Path) -> None:
    prepare(tmp_path, {"full": 0.67, **OTHERS})
    asked = campaign(tmp_path)
    assert asked.run("tests.support.cheap_jobs:waits_for_gate").finished
    assert events(tmp_path, "end") == ["full", "B", "C"]


def test_controls_run_beside_the_branch_and_the_appendix_keeps_them_apart(tmp_path: Path) -> None:
    prepare(tmp_path, {"full": 0.67, **OTHERS, "constant": 0.3, "random_source": 0.31}, samples=True)
    base = tiny(test_examples=1000)
    asked = Campaign(phase1(base).with_controls(base), base, tiny_run(), storage=tmp_path, name="controlled")
    assert asked.run(DIRECT).finished
    assert events(tmp_path, "start") == ["full", "B", "C", "constant", "random_source"]
    assert len(files.read_json(asked.folder / "gate.json")["decisions"]) == 1
    record = files.read_json(campaign_appendix(asked.folder)["appendix.json"])
    assert record["controls"]["names"] == ["constant", "random_source"]
    assert {name for pair in record["pairs"] for name in (pair["a"], pair["b"])} == {"full", "B", "C"}


def test_a_failed_full_runs_nothing_more_and_says_so(tmp_path: Path) -> None:
    from cluster.monitoring.summary import failure_lines, gate_lines

    prepare(tmp_path, {"full": 0.5, **OTHERS}, fail=["full"])
    asked = campaign(tmp_path)
    policy = asked.run(DIRECT)
    assert events(tmp_path, "start") == ["full"], "a job that raises is not tried again"
    assert gate_lines(policy) == [
        "gate: not decided, since full-" + policy.failed_first[5:] + " failed; nothing else was run"
    ]
    *_, cause = failure_lines(asked.trial(policy.failed_first), asked.folder / "ray.log")
    assert cause == "RuntimeError: full cannot be run"
    assert files.read_json(asked.folder / "gate.json")["status"] == "failed"
    frame = asked.results()
    assert list(frame["status"]) == ["failed"]
    assert frame["error"][0] == "RuntimeError: full cannot be run"


def test_a_failed_variant_is_tried_again_by_the_next_start_alone(tmp_path: Path) -> None:
    prepare(tmp_path, {"full": 0.67, **OTHERS}, fail=["B"])
    assert any(outcome.failed for outcome in campaign(tmp_path).run(DIRECT).outcomes.values())
    assert events(tmp_path, "start") == ["full", "B", "C"]
    prepare(tmp_path, {"full": 0.1, **OTHERS})
    asked = campaign(tmp_path)
    asked.run(DIRECT)
    assert events(tmp_path, "start") == ["full", "B", "C", "B"]
    frame = asked.results().set_index("variant")
    assert set(frame["status"]) == {"finished"}
    assert frame["accuracy/bridged"]["full"] == 0.67, "a finished trial stays as it was"
    assert len(frame) == 3


def test_another_campaign_reuses_what_is_finished(storage_of: Callable[[float], Path], tmp_path: Path) -> None:
    shutil.copytree(storage_of(0.67), tmp_path, dirs_exist_ok=True)
    again = campaign(tmp_path)
    again.name = "second"
    again.run(DIRECT)
    assert events(tmp_path, "start") == ["full", "B", "C"]
    frame = again.results()
    assert sorted(frame["variant"]) == ["B", "C", "full"]
    assert all("phase1-tiny" in str(source) for source in frame["reused_from"])
    wider = campaign(tmp_path, gate=GateSettings(attribute=0.68))
    wider.name = "third"
    wider.run(DIRECT)
    assert events(tmp_path, "start") == ["full", "B", "C", "A"]


def test_confident_mode_runs_full_again_until_it_is_sure(tmp_path: Path) -> None:
    prepare(tmp_path, {"full": 0.72, "full/0": 0.69, "full/1": 0.80, **OTHERS}, n=1000)
    settings = GateSettings(mode=Mode.CONFIDENT, budget=3)
    policy = campaign(tmp_path, gate=settings, test_examples=None).run(DIRECT)
    assert events(tmp_path, "start")[:2] == ["full", "full"]
    assert [d.uncertain for d in policy.decisions()][-1] is False
    assert policy.decisions()[-1].branch == "pass"


def test_more_than_the_machine_has_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, {"full": 0.72})
    asked = campaign(tmp_path, run={"use_gpu": True, "workers": 4})
    with pytest.raises(UserError, match=r"4 workers need 4 GPUs on one node; the largest of 1 live nodes.* has 0"):
        asked.run(DIRECT)
    assert events(tmp_path, "start") == []


def test_a_table_in_each_format(storage_of: Callable[[float], Path], tmp_path: Path) -> None:
    import pandas as pd

    from tune_spaces.records.results_table import export

    frame = campaign(storage_of(0.72)).results()
    assert {"kl", "prompt", "decode", "projection"} <= set(frame.columns)
    assert frame["kl"][0] == "on"
    assert frame["config/kl_alignment"][0]
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}
    for kind, reader in read.items():
        table = reader(export(frame, tmp_path / f"r.{kind}", kind))
        assert table["accuracy/bridged"].tolist() == [0.72]
        assert table["variant"].tolist() == ["full"]


def test_a_phase_that_wants_free_resources_waits_for_nobody(tmp_path: Path) -> None:
    """Phase 3 starts on free GPUs alone; here CPUs stand for them."""
    import ray

    prepare(tmp_path, {"full": 0.72})
    phase = Phase(name="late", goal="g", first=(full(),), needs_free_gpus=True)

    @ray.remote(num_cpus=1)
    class Other:
        def here(self) -> bool:
            return True

    other = Other.remote()
    try:
        assert ray.get(other.here.remote())
        asked = Campaign(phase, tiny(), tiny_run(), storage=tmp_path, name="late")
        with pytest.raises(UserError, match=r"needs 2 on one node, and the freest has 1\. .*--force"):
            asked.run(DIRECT)
        assert asked.run(DIRECT, force=True).finished
    finally:
        ray.kill(other)
