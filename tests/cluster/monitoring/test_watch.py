"""`status --watch` reads a campaign's folder, from any machine: states, steps, accuracy so far, time left."""

import io
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from bridge_common import files
from bridge_common.heartbeat import Heartbeat
from bridge_common.trial_folder import TrialFolder
from cluster.cli.app import app
from cluster.monitoring.progress import waiting_line
from cluster.monitoring.snapshot import Snapshot, Watcher, makespan
from cluster.monitoring.status import _trial_line
from cluster.monitoring.watch import _watch, duration, headline, render
from ray_bridge import tiny, tiny_run
from tests.support.ray_searches import SearchDriver
from tune_spaces.campaign import Campaign
from tune_spaces.design import phases
from tune_spaces.design.search import parse_axis
from tune_spaces.design.sweep import sweep


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    base = tiny(steps=100)
    campaign = Campaign(phases.phase1(base), base, tiny_run(use_gpu=True), storage=tmp_path, name="c", seeds=(0, 1))
    campaign.freeze()
    campaign.records.write_campaign({"phase": {}, "starts": [{"time": 0}]})
    return campaign


def begin(campaign: Campaign, name: str, *events: dict[str, object]) -> TrialFolder:
    folder = campaign.records.begin(campaign.plan.trials[name], campaign.run_spec)
    for event in events:
        files.append_jsonl(folder.events_file, event)
    return folder


def step(number: int, time: float, **values: float) -> dict[str, object]:
    return {"kind": "metrics", "time": time, "step": number, "values": {"loss/total": 1.0, **values}}


RUNNING = {"kind": "status", "time": 1000.0, "status": "RUNNING"}


def of(snapshot: Snapshot, name: str) -> dict[str, object]:
    (trial,) = [trial for trial in snapshot.trials if trial.name == name]
    return {key: getattr(trial, key) for key in ("state", "step", "accuracy", "on_test", "node", "left")}


def test_what_runs_what_waits_and_for_how_long(campaign: Campaign) -> None:
    first, second = campaign.plan.first
    begin(
        *(campaign, first, RUNNING, {"kind": "tags", "time": 1000.0, "values": {"node": "gpu-7"}}),
        *(step(10, 1010.0), step(20, 1020.0, **{"validation/accuracy/bridged": 0.5}), step(30, 1030.0)),
    )
    begin(campaign, second)
    with campaign.records.locked():
        campaign.records.write_schedule(
            {"parallel": "auto", "slots": 2, "running": {first: 1000.0, second: 1020.0}, "without_place": 1, "ready": 0}
        )
        now = Watcher(campaign).snapshot(now=1040.0)
    assert of(now, first) == {
        "state": "running", "step": 30, "accuracy": 0.5, "on_test": False, "node": "gpu-7", "left": 60.0,
    }  # fmt: skip
    assert of(now, second)["state"] == "starting"
    assert now.counts() == {"running": 1, "starting": 1, "waits for the gate": 6}
    assert now.gpu_hours == pytest.approx(40 * 2 / 3600)
    assert "1 wait for their GPUs or CPUs" in headline(campaign, now)


def test_a_place_that_is_left_to_another_campaign_is_named(campaign: Campaign) -> None:
    schedule = {"parallel": "auto", "slots": 1, "running": {}, "without_place": 0, "ready": 2, "left_to": "other"}
    with campaign.records.locked():
        campaign.records.write_schedule(schedule)
        now = Watcher(campaign).snapshot(now=1040.0)
    assert "; the next free place goes to campaign other" in headline(campaign, now)
    assert waiting_line(schedule) == "the next free place of the cluster goes to campaign other"
    assert waiting_line({**schedule, "running": {"full": 1000.0}}) == "", "it has trials that run"


def test_a_trial_without_a_sign_of_life_is_shown_as_such(campaign: Campaign) -> None:
    first, second = campaign.plan.first
    said = "no step for 1800 s on h1 (rank 1): killed, to start again from its checkpoint"
    for name in (first, second):
        tags = {"kind": "tags", "time": 1001.0, "values": {"stalled": said}} if name == second else step(3, 1010.0)
        folder = begin(campaign, name, RUNNING, step(2, 1000.5), tags)
        with Heartbeat(folder.path, "rank-0", rank=0).beating():
            path = folder.path / "heartbeats" / "rank-0.json"
            beat = files.read_json(path) | {"last_sign": time.time() - (75.0 if name == first else 10.0)}
        files.write_json(path, beat)
    with campaign.records.locked():
        running = {first: 1000.0, second: 1000.0}
        campaign.records.write_schedule(
            {"parallel": "auto", "slots": 2, "running": running, "without_place": 0, "ready": 0}
        )
        now = Watcher(campaign).snapshot(now=time.time())
        assert {trial.name: trial.note for trial in now.trials if trial.note} == {first: "no step for 75 s"}
        console = Console(file=io.StringIO(), width=140)
        console.print(render(campaign, now))
        assert "running: no step for 75 s" in console.file.getvalue()  # type: ignore[attr-defined]
        assert _trial_line(campaign, first) == f"{first} (seed 0): step 3 of 100, no step for 75 s"
        assert _trial_line(campaign, second) == f"{second} (seed 1): step 2 of 100; earlier: {said}"
    assert Watcher(campaign).snapshot().trials[0].note == "", "nothing runs without a driver"


def test_what_ended_and_what_was_left_behind(campaign: Campaign) -> None:
    first, second = campaign.plan.first
    begin(campaign, first, RUNNING, step(100, 1100.0)).write_result(
        {"metrics": {"accuracy/bridged": 0.72, "n": 100, "correct/bridged": 72}}
    )
    begin(campaign, second, RUNNING, step(40, 1040.0))
    now = Watcher(campaign).snapshot(now=9e9)
    assert not now.driven
    assert of(now, first) | {"left": 0.0} == of(now, first)
    assert of(now, first)["accuracy"] == 0.72
    assert of(now, second)["state"] == "stopped"
    assert now.gpu_hours == pytest.approx((100 + 40) * 2 / 3600), "nothing is counted after the last sign of life"
    assert "nobody runs it" in headline(campaign, now)


def test_the_command_ends_when_nobody_runs_the_campaign(tmp_path: Path) -> None:
    base = tiny()
    campaign = Campaign(phases.phase1(base), base, tiny_run(), storage=tmp_path, name="c")
    for name in campaign.plan.first:
        begin(campaign, name).write_result({"metrics": {"accuracy/bridged": 0.72, "n": 100, "correct/bridged": 72}})
    campaign.run(job="nothing:runs")
    done = CliRunner().invoke(app, ["status", "--watch", "--storage", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "c: 1 finished; nobody runs it" in done.output
    assert "72.0%" in done.output
    assert "gate: passed" in done.output


def test_the_table_is_printed_again_when_its_driver_left(
    campaign: Campaign, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = campaign.plan.first
    begin(campaign, first).write_result({"metrics": {"accuracy/bridged": 0.72, "n": 100, "correct/bridged": 72}})
    driven = iter([True, True, False])
    _watch(Watcher(campaign, driven=lambda: next(driven)), every=0.0)
    lines = [line.partition(" c: ")[2] for line in capsys.readouterr().out.splitlines() if " c: " in line]
    assert [line.split("; ")[0] for line in lines] == 2 * ["1 finished, 1 ready, 6 waits for the gate"]
    assert ["nobody runs it" in line for line in lines] == [False, True]


def test_the_end_of_several_trials_depends_on_the_slots() -> None:
    assert makespan([10, 10, 10, 10], 1) == 40
    assert makespan([10, 10, 10, 10], 3) == 20
    assert makespan([], 4) == 0


@pytest.mark.parametrize(("seconds", "words"), [(5, "5 s"), (600, "10 min"), (11_100, "3 h 05 min")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_trials_that_a_search_will_propose_count_as_left(tmp_path: Path) -> None:
    phase = sweep(tiny(), [parse_axis("learning_rate=log:1e-5:1e-3")], search="optuna", trials=6)
    campaign = Campaign(phase, tiny(), tiny_run(), storage=tmp_path, name="c")
    campaign.folder.mkdir()
    driver = SearchDriver(campaign, lambda spec: 0.6)
    driver.run(until=2)
    now = Watcher(Campaign.load(tmp_path, "c")).snapshot()
    assert now.counts() == {"stopped": 1, "finished": 2}
    minutes = files.read_json(campaign.records.plan_file)["search"]["minutes"]
    assert now.left >= 3 * 60 * minutes > 0
    watcher = Watcher(Campaign.load(tmp_path, "c"))
    SearchDriver(Campaign.load(tmp_path, "c"), lambda spec: 0.6).run()
    assert watcher.snapshot().counts() == {"finished": 6}, "it sees what was proposed since"
    done = CliRunner().invoke(app, ["status", "--storage", str(tmp_path)], catch_exceptions=False)
    assert "c: finished, 6 of 6 trials done" in done.output
