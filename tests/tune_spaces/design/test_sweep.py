"""Sweeps over settings: what may be varied, in which points, and what is refused."""

from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge import tiny
from tune_spaces.design.plan import make_plan
from tune_spaces.design.search import Axis, parse_axis
from tune_spaces.design.sweep import sweep


def points(*over: str, **how: Any) -> list[dict[str, Any]]:
    phase = sweep(tiny(), [parse_axis(text) for text in over], **how)
    assert len({variant.name for variant in phase.first}) == len(phase.first)
    plan = make_plan(phase, tiny())
    assert len(plan.trials) == len(phase.first)
    return [trial.spec.flat() for trial in plan.trials.values()]


def test_a_grid_has_every_combination() -> None:
    found = points("soft_tokens=4,8,16", "learning_rate=1e-4,3e-4", among=["kl"])
    combinations = {(row["soft_tokens"], row["learning_rate"], row["kl_alignment"]) for row in found}
    assert combinations == {(k, rate, on) for k in (4, 8, 16) for rate in (1e-4, 3e-4) for on in (True, False)}
    assert all(row["decode_aware"] for row in found), "other toggles are on"


def test_random_points_lie_in_their_ranges_and_are_the_same_each_time() -> None:
    over = ("learning_rate=log:1e-5:1e-3", "clip_norm=lin:0.5:2", "soft_tokens=int:4:64")
    found = points(*over, search="random", trials=40)
    assert found == points(*over, search="random", trials=40)
    assert len(found) == 40
    assert all(1e-5 <= row["learning_rate"] <= 1e-3 and 0.5 <= row["clip_norm"] <= 2 for row in found)
    assert all(isinstance(row["soft_tokens"], int) and 4 <= row["soft_tokens"] <= 64 for row in found)
    below = sum(row["learning_rate"] < 1e-4 for row in found)
    assert 10 <= below <= 30, "half of them lie in each decade"


def test_no_point_is_drawn_twice() -> None:
    assert len(points("soft_tokens=4,8", search="random", trials=10)) == 2


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("soft_tokens=4, 8", Axis(field="soft_tokens", values=("4", "8"))),
        ("a=log:1e-5:1e-3", Axis(field="a", scale="log", low=1e-5, high=1e-3)),
        ("a=int:1:8", Axis(field="a", scale="int", low=1, high=8)),
    ],
)
def test_axes(text: str, axis: Axis) -> None:
    assert parse_axis(text) == axis


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        *((text, "give FIELD=A,B,C") for text in ("", "a", "a=", "=1", "a=1,,2", "a=log:1", "a=lin:2:1", "a=lin:1:x")),
        ("a=1, 2,1", "each value once"),
        ("a=log:0:1", "0 < LOW"),
        ("a=log:-1:1", "0 < LOW"),
        ("a=int:1.5:4", "whole numbers"),
        ("a=int:1:inf", "finite"),
        ("a=lin:0.1:inf", "finite"),
        ("a=lin:nan:1", "finite"),
    ],
)
def test_what_is_no_axis(text: str, remedy: str) -> None:
    with pytest.raises(UserError, match=f"--over {text}.*{remedy}"):
        parse_axis(text)


@pytest.mark.parametrize(
    ("over", "how", "reason"),
    [
        ((), {}, "needs a setting to vary"),
        (("learning_rate=log:1e-5:1e-3",), {}, "a range has no grid"),
        (("soft_tokens=4,8,16",), {"trials": 2}, "the grid has 3 points, more than 2"),
        (("soft_tokens=4,8", "soft_tokens=16"), {}, "varied twice"),
        (("kl_alignment=true,false",), {"among": ["kl"]}, "varied twice"),
        (("soft_tokens=4,8", "workers=1,2"), {}, "workers is a setting of the run"),
        (("soft_tokens=4",), {"search": "optimal"}, "use grid, random or optuna"),
        (("soft_tokens=4",), {"search": "random", "trials": 0}, "at least one point"),
        (("soft_tokens=0,4",), {}, "soft_tokens"),
        (("soft_tokens=4,8,04",), {}, "4 and 04 are one value"),
        (("learning_rate=1e-3,0.001",), {"search": "random"}, "are one value"),
        (("learning_rate=1e-3,0.001",), {"search": "optuna"}, "1e-3 and 0.001 are one value"),
        *(
            (("learning_rate=log:1e-5:1e-3",), {"search": search, "trials": 1_000_000}, "at most 10000")
            for search in ("random", "optuna")
        ),
        (
            (f"soft_tokens={','.join(map(str, range(1, 102)))}", f"steps={','.join(map(str, range(1, 102)))}"),
            {"trials": 1_000_000},
            "the grid has 10201 points, more than 10000",
        ),
        (("no_such_field=1",), {}, "no_such_field"),
    ],
)
def test_what_is_refused(over: tuple[str, ...], how: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        sweep(tiny(), [parse_axis(text) for text in over], **how)
