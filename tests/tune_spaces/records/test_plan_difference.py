"""What a plan that differs from the frozen one is said to differ in."""

import json
from pathlib import Path
from typing import Any

import pytest

from ray_bridge import tiny
from tests.support.planned_trials import RUN, campaign
from tests.support.planned_trials import plan as phase1_plan
from tune_spaces.design.phases import ablate
from tune_spaces.design.plan import Plan, make_plan
from tune_spaces.design.search import parse_axis
from tune_spaces.design.sweep import sweep
from tune_spaces.records import plan_file
from tune_spaces.records.plan_difference import differences, identity_difference


def swept(*over: str, seeds: tuple[int, ...] = (0,), **base: Any) -> Plan:
    axes = [parse_axis(text) for text in over]
    return make_plan(sweep(tiny(**base), axes), tiny(**base), seeds=seeds)


def said(before: Plan, now: Plan) -> list[str]:
    frozen = json.loads(json.dumps(plan_file.plan_record(before, RUN, campaign(Path("unused")), {})))
    return differences(frozen, now)


def test_a_difference_is_named_in_a_few_words() -> None:
    base = phase1_plan().identity
    assert identity_difference(base, phase1_plan().identity) is None
    assert identity_difference(base, {**base, "phase": "p"}) == "phase was phase1, now p"
    assert identity_difference(base, {**base, "passes": 0.8}) == "passes was 0.7, now 0.8"
    assert identity_difference(base, {**base, "attribute": 0.6}) == "attribute was 0.65, now 0.6"
    names = list(base["trials"])
    trials = {**base["trials"], names[0]: "0" * 16}
    said = "1 of its 4 trials would measure something else now"
    assert identity_difference(base, {**base, "trials": trials}) == said
    renamed = {f"{name}-": digest for name, digest in base["trials"].items()}
    assert identity_difference(base, {**base, "trials": renamed}) is None, "the same experiments by other names"


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (swept("soft_tokens=4,8"), swept("soft_tokens=4,8"), []),
        (
            swept("soft_tokens=4,8"),
            swept("soft_tokens=4,16"),
            ["soft_tokens was 4, 8, now 4, 16", "1 of its 2 trials would measure something else now"],
        ),
        (swept("soft_tokens=4"), swept("soft_tokens=4,8"), ["soft_tokens was 4, now 4, 8", "its 1 trial would be 2"]),
        (
            swept("soft_tokens=4,8,16"),
            swept("soft_tokens=4"),
            ["soft_tokens was 4, 8, 16, now 4", "2 of its 3 trials would no longer be planned"],
        ),
        (
            swept("soft_tokens=4,8"),
            swept("soft_tokens=4,8", "depth=1,2"),
            ["depth was 2, now 1, 2", "its 2 trials would be 4"],
        ),
        (
            swept("soft_tokens=4,8"),
            swept("soft_tokens=4,8", seeds=(0, 1)),
            ["seeds were 0, now 0, 1", "its 2 trials would be 4"],
        ),
        (
            swept("soft_tokens=4,8"),
            swept("soft_tokens=4,8", learning_rate=0.5),
            ["learning_rate was 0.001, now 0.5", "2 of its 2 trials would measure something else now"],
        ),
    ],
)
def test_fields_and_values_are_named(before: Plan, now: Plan, expected: list[str]) -> None:
    assert said(before, now) == expected


def test_variants_are_named_if_no_field_has_other_values() -> None:
    before, now = (ablate(tiny(), [design], ["kl", "prompt"]) for design in ("factorial", "leave-one-out"))
    found = said(make_plan(before, tiny()), make_plan(now, tiny()))
    assert found[0].startswith("without the variants ")
    assert "none" in found[0]


def test_at_most_four_are_named() -> None:
    many = swept("soft_tokens=1,2,3,4,5,6,7,8")
    assert said(swept("soft_tokens=4,8"), many)[0] == "soft_tokens was 4, 8, now 1, 2, 3, 4, 4 further ones"
