"""Campaigns: frozen, priced, reused, refused if they would become another, and run once their prerequisites passed."""

import os
from pathlib import Path

import pytest

from bridge_common import files
from bridge_common.errors import UserError
from bridge_common.event_log import EventLog
from bridge_common.trial_folder import TrialFolder
from ray_bridge import code_digest, tiny, tiny_run
from tune_spaces.campaign import Campaign
from tune_spaces.design import phases, variants
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import MOST_TRIALS
from tune_spaces.records import plan_file, reuse


def campaign(storage: Path, name: str = "c", **changes: object) -> Campaign:
    base = tiny(**changes)
    return Campaign(phases.phase1(base), base, tiny_run(), storage=storage, name=name)


def finish(of: Campaign, name: str, accuracy: float = 0.6, seconds: float = 60.0) -> Path:
    """Write what a finished job leaves in its folder."""
    trial = of.plan.trials[name]
    folder = of.records.begin(trial, of.run_spec)
    files.write_text(folder.events_file, "")
    folder.write_result(
        {
            "variant": trial.variant,
            "fingerprint": trial.fingerprint,
            "metrics": {"accuracy/bridged": accuracy, "correct/bridged": round(accuracy * 500), "n": 500},
            "node_id": "n",
            "seconds": seconds,
            "start_seconds": 0.0,
            "evaluation_seconds": 0.0,
        },
    )
    return folder.path


def names(of: Campaign) -> dict[str, str]:
    return {trial.variant: name for name, trial in of.plan.trials.items()}


@pytest.mark.slow
def test_ten_thousand_trials_are_planned(tmp_path: Path) -> None:
    """How fast: `benchmarks/plan_speed.py`."""
    sweep = Phase(name="sweep", goal="all K", first=tuple(variants.compression(range(1, MOST_TRIALS // 5 + 1))))
    asked = Campaign(sweep, tiny(), tiny_run(), storage=tmp_path, name="s", seeds=range(5))
    trials = asked.freeze()["trials"]
    assert len(trials) == len(set(asked.plan.trials)) == MOST_TRIALS


def test_a_campaign_is_not_mixed_with_another(tmp_path: Path) -> None:
    campaign(tmp_path).freeze()
    campaign(tmp_path).freeze()
    with pytest.raises(UserError, match="planned differently"):
        campaign(tmp_path, steps=7).freeze()


def test_finished_trials_of_other_campaigns_are_planned_as_done_and_reused(tmp_path: Path) -> None:
    first = campaign(tmp_path, "first")
    folder = finish(first, names(first)["full"])
    files.write_jsonl(folder / "samples.jsonl", [{"id": f"q{i}", "bridged_correct": i < 3} for i in range(500)])
    (folder / "train").mkdir()
    (folder / "train" / "checkpoint").write_text("large")
    second = campaign(tmp_path, "second")
    states = {row["variant"]: row for row in second.freeze()["trials"]}
    assert states["full"]["done"]
    assert states["full"]["reused_from"] == str(folder)
    assert not states["B"]["done"]
    policy = second.policy()
    taken = reuse.take_finished(second.records, policy, second.plan.trials, second.run_spec)
    assert list(taken) == [names(second)["full"]]
    copy = second.trial(names(second)["full"]).path
    assert (copy / "samples.jsonl").is_file()
    assert not (copy / "train").exists()
    assert files.read_json(copy / "result.json")["reused_from"] == str(folder)
    assert policy.next() == names(second)["A"]
    assert {row["variant"]: row for row in second.freeze()["trials"]}["full"]["reused_from"] == str(folder)


def test_another_experiment_is_not_reused(tmp_path: Path) -> None:
    first = campaign(tmp_path, "first", steps=7)
    finish(first, names(first)["full"])
    assert not any(row["done"] for row in campaign(tmp_path, "second").freeze()["trials"])


def test_a_frozen_plan_reads_back(tmp_path: Path) -> None:
    planned = campaign(tmp_path)
    record = planned.freeze()
    again = plan_file.plan_from_record(record, planned.phase, planned.base, planned.gate)
    assert again.trials == planned.plan.trials
    assert again.identity == planned.plan.identity
    assert plan_file.phase_from_record(plan_file.phase_record(planned.phase)) == planned.phase


def test_estimates_learn_from_finished_trials(tmp_path: Path) -> None:
    planned = campaign(tmp_path)
    rows = {row["variant"]: row for row in planned.freeze()["trials"]}
    assert rows["B"]["estimate"] == "model"
    assert rows["B"]["minutes"] < rows["full"]["minutes"], "B has no decode-aware steps and no projection"
    finish(planned, names(planned)["full"], seconds=7200)
    after = {row["variant"]: row for row in planned.freeze()["trials"]}["B"]
    assert after["minutes"] == pytest.approx(120 * rows["B"]["minutes"] / rows["full"]["minutes"], rel=0.05)
    assert after["estimate"] == "model, corrected by 1 like it"
    assert after["gpu_hours"] == 0


def phase2(storage: Path) -> Campaign:
    base = tiny()
    swap = phases.phase2(base).first[:1]
    return Campaign(
        Phase(name="phase2", goal="g", first=swap, needs=("phase1",)), base, tiny_run(), storage=storage, name="two"
    )


def test_phase_2_waits_for_phase_1(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"phase2 needs phase1: no campaign .* --force"):
        phase2(tmp_path).check_prerequisites()


@pytest.mark.parametrize(("accuracy", "passed"), [(0.72, True), (0.60, False)])
def test_phase_2_wants_a_phase_1_that_passed(tmp_path: Path, accuracy: float, passed: bool) -> None:
    one = campaign(tmp_path, "one")
    for name in one.plan.trials:
        finish(one, name, accuracy)
    one.run(job="nothing:runs")
    if passed:
        assert phase2(tmp_path).check_prerequisites()[0]["campaign"] == "one"
    else:
        with pytest.raises(UserError, match=r"one did not pass: 60\.0% against 70%"):
            phase2(tmp_path).check_prerequisites()


def test_force_stands_in_the_record(tmp_path: Path) -> None:
    two = phase2(tmp_path)
    for name in two.plan.trials:
        finish(two, name)
    two.run(job="nothing:runs", force=True)
    asked = files.read_json(two.folder / "campaign.json")
    assert asked["forced"] is True
    assert asked["starts"][0]["prerequisites"][0]["forced"] is True


def test_a_finished_campaign_needs_no_ray(tmp_path: Path) -> None:
    one = campaign(tmp_path)
    finish(one, names(one)["full"], 0.72)
    assert one.run(job="nothing:runs").finished
    gate = files.read_json(one.folder / "gate.json")
    assert gate["passed"] is True
    assert gate["branch"] == "pass"
    import ray

    assert not ray.is_initialized()


def test_two_drivers_on_one_campaign(tmp_path: Path) -> None:
    one = campaign(tmp_path)
    with one.records.locked(), pytest.raises(UserError, match=r"is being run by process \d+"):
        campaign(tmp_path).run(job="nothing:runs")


def begin_with_code(of: Campaign, digest: str, *, steps: int) -> TrialFolder:
    """Begin the first trial as another version of the code would have, and let it train some steps."""
    trial = of.records.begin(of.plan.trials[names(of)["full"]], of.run_spec)
    trial.begin({**(trial.spec() or {}), "code": [digest]})
    log = EventLog(trial.events_file)
    for step in range(steps + 1):
        log.metrics(step, {"loss/total": 1.0})
    return trial


def test_a_trial_that_other_code_has_begun_is_refused_or_continued_on_the_record(tmp_path: Path) -> None:
    of = campaign(tmp_path)
    of.freeze()
    trial = begin_with_code(of, "0" * 16, steps=3)
    with pytest.raises(UserError, match=rf"since {trial.name} began: .* --name c-2, .* --allow-changed-code"):
        of.run("no.such:job")
    of.check_code(allow_changed=True)
    again = of.records.begin(of.plan.trials[trial.name], of.run_spec)
    assert (again.spec() or {})["code"] == ["0" * 16, code_digest()]
    of.records.begin(of.plan.trials[trial.name], of.run_spec)
    assert (again.spec() or {})["code"] == ["0" * 16, code_digest()], "named once by a start of the same code"
    of.check_code()
    (row,) = of.results().to_dict("records")
    assert row["code"] == "0" * 16 + "+" + code_digest()


def test_code_that_changed_before_the_first_step_or_after_the_end_is_no_matter(tmp_path: Path) -> None:
    of = campaign(tmp_path)
    trial = begin_with_code(of, "0" * 16, steps=0)
    of.check_code()
    of.records.begin(of.plan.trials[trial.name], of.run_spec)
    assert (trial.spec() or {})["code"] == [code_digest()], "nothing of the other code is in the record"
    begin_with_code(of, "0" * 16, steps=3)
    trial.write_result({"metrics": {}})
    of.check_code()


def test_a_trial_that_is_reused_keeps_the_code_that_trained_it(tmp_path: Path) -> None:
    first, second = campaign(tmp_path, "first"), campaign(tmp_path, "second")
    begin_with_code(first, "0" * 16, steps=3)
    finish_folder = first.trial(names(first)["full"])
    finish_folder.write_result({"metrics": {}, "fingerprint": finish_folder.fingerprint()})
    planned = second.plan.trials[names(second)["full"]]
    copied = reuse.copy_records(finish_folder, second.records, planned, second.run_spec)
    assert (copied.spec() or {})["code"] == ["0" * 16]


def test_half_a_result_is_not_reused(tmp_path: Path) -> None:
    first, second = campaign(tmp_path, "first"), campaign(tmp_path, "second")
    folder = first.trial(finish(first, names(first)["full"]).name)
    planned = second.plan.trials[names(second)["full"]]
    assert reuse.source_of(planned, second.records, reuse.finished_trials(tmp_path)) == folder
    os.truncate(folder.result_file, folder.result_file.stat().st_size // 2)
    assert reuse.source_of(planned, second.records, reuse.finished_trials(tmp_path)) is None
