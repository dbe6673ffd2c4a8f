"""Plans and phases as plain values: written, read back and compared."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ray_bridge import tiny
from tests.support.planned_trials import RUN, campaign, finish, of_variant, plan
from tune_spaces.design import phases, variants
from tune_spaces.design.cost_estimates import CostModel
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import Plan, make_plan
from tune_spaces.gate.decision import GateSettings, Mode
from tune_spaces.records import plan_file, reuse

CONFIDENT = GateSettings(passes=0.8, attribute=0.6, level=0.9, mode=Mode.CONFIDENT, budget=2)


def record(planned: Plan, storage: Path, name: str = "c") -> dict[str, Any]:
    made = plan_file.plan_record(planned, RUN, campaign(storage, name), reuse.finished_trials(storage))
    return json.loads(json.dumps(made))


def test_a_phase_reads_back_from_its_record() -> None:
    for phase in (phases.phase1(tiny()), replace(phases.phase3(tiny()), needs=("phase1", "phase2"), follow_up="later")):
        assert plan_file.phase_from_record(json.loads(json.dumps(plan_file.phase_record(phase)))) == phase


def test_a_plan_reads_back_from_its_record(tmp_path: Path) -> None:
    held = {"geometry_projection": False}
    planned = make_plan(phases.phase1(tiny()), tiny(), seeds=(0, 1), gate=CONFIDENT, held=held)
    again = plan_file.plan_from_record(record(planned, tmp_path), planned.phase, planned.base, planned.gate)
    assert again == planned


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"branches": {"pass": [], "attribute": [], "Attribute_all": []}}, "its branches are pass, attribute, Attri"),
        ({"first": ["nobody"]}, "'nobody' is none of its trials"),
        ({"beside": ["nobody"]}, "'nobody' is none of its trials"),
        ({"branches": {"pass": ["nobody"], "attribute": [], "attribute_all": []}}, "'nobody' is none of its trials"),
    ],
)
def test_a_plan_whose_parts_do_not_fit_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    """Found by `make fuzz`: the gate then asked for a branch that there was not."""
    planned = make_plan(phases.phase1(tiny()), tiny())
    damaged = record(planned, tmp_path) | changed
    with pytest.raises(LookupError, match=message):
        plan_file.plan_from_record(damaged, planned.phase, planned.base, planned.gate)


def test_the_record_of_a_plan_says_what_is_planned(tmp_path: Path) -> None:
    planned = make_plan(phases.phase1(tiny()), tiny(), seeds=(0, 1), gate=CONFIDENT)
    made = record(planned, tmp_path)
    assert made["frozen"] == pytest.approx(time.time(), abs=60)
    assert (made["phase"], made["goal"]) == ("phase1", planned.phase.goal)
    assert made["identity"] == planned.identity
    assert made["gate"] == {"passes": 0.8, "attribute": 0.6, "level": 0.9, "mode": "confident", "budget": 2}
    assert made["seeds"] == [0, 1]
    assert made["base"] == json.loads(json.dumps(tiny().model_dump()))
    assert (made["first"], made["extras"]) == (list(planned.first), list(planned.extras))
    assert made["branches"] == {name: list(names) for name, names in planned.branches.items()}
    assert [row["name"] for row in made["trials"]] == list(planned.trials)
    without_gate = record(make_plan(phases.phase2(tiny()), tiny()), tmp_path)
    assert without_gate["gate"] is None


def test_the_record_of_a_trial_says_what_it_is_and_what_it_costs(tmp_path: Path) -> None:
    planned = make_plan(phases.phase1(tiny()), tiny(), held={"geometry_projection": False})
    made = record(planned, tmp_path)
    assert made["estimate"]["assumed"] == ["lengths and sizes known of synthetic"]
    rows = {row["variant"]: row for row in made["trials"]}
    full, c = of_variant(planned, "full"), of_variant(planned, "C")
    cost = CostModel.from_finished(RUN, []).estimate(c.spec, RUN)
    assert rows["C"] == {
        "name": c.name,
        "variant": "C",
        "phase": "phase1.5",
        "seed": 0,
        "fingerprint": c.fingerprint,
        "purpose": "everything but the projection",
        "changes": {"geometry_projection": False},
        "same_as": full.name,
        "minutes": round(cost.minutes, 1),
        "gpu_hours": 0,
        "estimate": "model",
        "minutes_by_part": {name: round(seconds / 60, 2) for name, seconds in cost.time.parts.items()},
        "items": 500,
        "done": False,
        "reused_from": None,
    }


def test_costs_are_rounded_to_a_tenth_of_a_minute_and_a_thousandth_of_a_gpu_hour(tmp_path: Path) -> None:
    from ray_bridge import paper_run

    planned = plan()
    made = plan_file.plan_record(planned, paper_run(), campaign(tmp_path), {})
    model = CostModel.from_finished(paper_run(), [])
    costs = [model.estimate(of_variant(planned, row["variant"]).spec, paper_run()) for row in made["trials"]]
    rows = [(row["minutes"], row["gpu_hours"]) for row in made["trials"]]
    assert rows == [(round(cost.minutes, 1), round(cost.gpu_hours, 3)) for cost in costs]
    assert any(minutes != round(cost.minutes, 2) for (minutes, _), cost in zip(rows, costs, strict=True))
    assert any(hours != round(cost.gpu_hours, 4) for (_, hours), cost in zip(rows, costs, strict=True))


def test_trials_that_finished_here_or_elsewhere_are_done(tmp_path: Path) -> None:
    planned = plan()
    full, b, a = (of_variant(planned, name) for name in ("full", "B", "A"))
    elsewhere = finish(campaign(tmp_path, "other"), full, seconds=7200)
    finish(campaign(tmp_path), b, seconds=7200)
    reuse.copy_records(finish(campaign(tmp_path, "other"), a, seconds=7200), campaign(tmp_path), a, RUN)
    rows = {row["variant"]: row for row in record(planned, tmp_path)["trials"]}
    assert {name: row["done"] for name, row in rows.items()} == {"full": True, "A": True, "B": True, "C": False}
    assert {name: row["reused_from"] for name, row in rows.items()} == {
        "full": str(elsewhere.path),
        "A": str(campaign(tmp_path, "other").trial(a.name).path),
        "B": None,
        "C": None,
    }
    assert rows["C"]["estimate"] == "model, corrected by 3 like it"
    assert rows["C"]["minutes"] == pytest.approx(120, rel=0.1)


def test_shared_settings_are_those_on_which_all_trials_agree() -> None:
    kept = variants.Variant(name="k", changes={"soft_tokens": tiny().soft_tokens, "steps": tiny().steps + 1})
    planned = make_plan(Phase(name="p", goal="g", first=(kept,)), tiny())
    shared = plan_file.settings_shared(planned)
    assert {**shared, "steps": tiny().steps} == tiny().flat()
    assert "steps" not in shared


def test_settings_of_the_gate_are_recorded_whole() -> None:
    assert set(asdict(CONFIDENT)) == {"passes", "attribute", "level", "mode", "budget"}
