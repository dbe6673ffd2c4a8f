"""Phases that must have passed: on the same models and task, whatever their direction and sizes."""

from pathlib import Path
from typing import Any

import pytest

from ray_bridge import JobSpec, tiny
from tests.support.planned_trials import campaign
from tune_spaces.records.prerequisites import prerequisite

PASSED = {"passed": True, "decisions": [{"accuracy": 0.72}], "settings": {"passes": 0.7}}
FAILED = {"passed": False, "decisions": [{"accuracy": 0.5}, {"accuracy": 0.4}, {"accuracy": 0.604}]} | {
    "settings": {"passes": 0.7}
}


def ran(
    storage: Path, name: str, gate: dict[str, Any] | None, base: JobSpec | None = None, phase: str = "phase1"
) -> None:
    folder = campaign(storage, name)
    folder.write_campaign({"phase": {"name": phase}, "base": (base or tiny()).model_dump()})
    if gate is not None:
        folder.write_gate(gate)


def test_a_campaign_that_passed_is_named(tmp_path: Path) -> None:
    ran(tmp_path, "a", FAILED)
    ran(tmp_path, "b", PASSED)
    expected = {"phase": "phase1", "passed": True, "campaign": "b", "reason": "passed"}
    assert prerequisite(tmp_path, "phase1", tiny()) == expected


def test_what_stands_in_the_way_is_said_for_every_campaign(tmp_path: Path) -> None:
    ran(tmp_path, "a", FAILED)
    ran(tmp_path, "b", None)
    ran(tmp_path, "c", {"passed": False, "decisions": []})
    reason = "a did not pass: 60.4% against 70%; b is not decided; c is not decided"
    found = prerequisite(tmp_path, "phase1", tiny())
    assert found == {"phase": "phase1", "passed": False, "campaign": None, "reason": reason}


def test_another_phase_does_not_count(tmp_path: Path) -> None:
    ran(tmp_path, "a", PASSED, phase="phase2")
    reason = f"no campaign in {tmp_path} has run it on these models and this task"
    found = prerequisite(tmp_path, "phase1", tiny())
    assert found == {"phase": "phase1", "passed": False, "campaign": None, "reason": reason}
    ran(tmp_path, "b", PASSED)
    assert prerequisite(tmp_path, "phase1", tiny())["campaign"] == "b", "the search goes on after another phase"


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"steps": 7, "kl_alignment": False}, True),
        ({"source": tiny().target, "target": tiny().source}, True),
        ({"source": tiny().target}, False),
        ({"target": tiny().source}, False),
        ({"task": "gsm8k"}, False),
        ({"task": "gsm8k", "task_data": "elsewhere"}, False),
    ],
)
def test_only_the_same_models_and_task_count(tmp_path: Path, changes: dict[str, Any], same: bool) -> None:
    ran(tmp_path, "a", PASSED, tiny(**changes))
    assert prerequisite(tmp_path, "phase1", tiny())["passed"] is same


def test_data_from_elsewhere_are_another_task(tmp_path: Path) -> None:
    ran(tmp_path, "a", PASSED, tiny(task="gsm8k", task_data="one"))
    assert prerequisite(tmp_path, "phase1", tiny(task="gsm8k", task_data="one"))["passed"]
    assert not prerequisite(tmp_path, "phase1", tiny(task="gsm8k", task_data="two"))["passed"]


def test_tasks_by_mapping_are_told_apart_by_the_name_of_the_mapping(tmp_path: Path) -> None:
    known = tiny(task="arc_challenge").task_mapping
    assert known is not None
    mine, yours = (tiny(task="mapped", task_mapping=known.model_copy(update={"name": n})) for n in ("mine", "yours"))
    ran(tmp_path, "a", PASSED, mine)
    assert prerequisite(tmp_path, "phase1", mine)["passed"]
    assert not prerequisite(tmp_path, "phase1", yours)["passed"]
