"""Effects of toggles: identities between them, and designs that do not determine all of them."""

from collections.abc import Callable
from itertools import chain, combinations
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_spaces.analysis.noise_floor import NoiseFloor
from tune_spaces.analysis.paired_tests import adjust, discordant, mcnemar_exact, paired_interval
from tune_spaces.analysis.toggle_effects import Attribution, Effect, Kind, attribute

TOGGLES = ("kl_alignment", "prompt_alignment", "decode_aware", "geometry_projection")
KL, PROMPT, DECODE, PROJECTION = TOGGLES
Cells = dict[frozenset[str], np.ndarray]


def subsets(toggles: tuple[str, ...] = TOGGLES) -> list[frozenset[str]]:
    return [frozenset(s) for s in chain.from_iterable(combinations(toggles, k) for k in range(len(toggles) + 1))]


def made(value: Callable[[frozenset[str]], float], which: list[frozenset[str]], items: int = 1_000) -> Cells:
    """Return cells with exactly the accuracies that `value` gives, on items in random order."""
    rng = np.random.default_rng(0)
    return {cell: (rng.permutation(items) < round(items * value(cell)))[None] for cell in which}


def of_kind(attribution: Attribution, kind: str) -> dict[tuple[str, ...], Effect]:
    return {effect.toggles: effect for effect in attribution.effects if effect.kind == kind}


def additive(cell: frozenset[str]) -> float:
    effect_of = {KL: 0.10, PROMPT: 0.05, DECODE: 0.02, PROJECTION: -0.03}
    return 0.5 + sum(effect_of[toggle] for toggle in cell)


def test_if_effects_add_up_all_measures_agree() -> None:
    attribution = attribute(made(additive, subsets()), TOGGLES)
    for toggle, effect_of in ((KL, 0.10), (PROMPT, 0.05), (DECODE, 0.02), (PROJECTION, -0.03)):
        for kind in ("leave_one_out", "add_one_in", "shapley"):
            assert of_kind(attribution, kind)[(toggle,)].estimate == pytest.approx(effect_of), (kind, toggle)
    interactions = [effect for effect in attribution.effects if effect.kind.startswith("interaction")]
    assert len(interactions) == 12
    assert all(effect.estimate == pytest.approx(0) for effect in interactions)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=16, max_size=16))
def test_shapley_sums_to_full_minus_base(correct: list[int]) -> None:
    cells = dict(zip(subsets(), correct, strict=True))
    attribution = attribute(made(lambda cell: cells[cell] / 40, subsets(), items=40), TOGGLES)
    total = sum(effect.estimate for effect in of_kind(attribution, "shapley").values() if effect.estimate is not None)
    assert total == pytest.approx((cells[frozenset(TOGGLES)] - cells[frozenset()]) / 40, abs=1e-12)


def test_shapley_of_a_known_game() -> None:
    # Two toggles help only together: each contributes half, leaving either out loses all, either alone gains nothing.
    together = made(lambda cell: 0.7 if {KL, DECODE} <= cell else 0.5, subsets())
    attribution = attribute(together, TOGGLES)
    assert of_kind(attribution, "shapley")[(KL,)].estimate == pytest.approx(0.1)
    assert of_kind(attribution, "shapley")[(PROMPT,)].estimate == pytest.approx(0.0)
    assert of_kind(attribution, "leave_one_out")[(KL,)].estimate == pytest.approx(0.2)
    assert of_kind(attribution, "add_one_in")[(KL,)].estimate == pytest.approx(0.0)
    assert of_kind(attribution, "interaction_at_base")[(KL, DECODE)].estimate == pytest.approx(0.2)
    assert of_kind(attribution, "interaction_at_full")[(KL, PROMPT)].estimate == pytest.approx(0.0)


def test_the_plans_design_determines_some_effects_and_imputes_no_other() -> None:
    full, c, b = frozenset(TOGGLES), frozenset(TOGGLES[:3]), frozenset({KL})
    value = {full: 0.68, c: 0.66, b: 0.62}
    attribution = attribute(made(lambda cell: value[cell], list(value)), TOGGLES)
    projection = of_kind(attribution, "leave_one_out")[(PROJECTION,)]
    assert projection.estimate == pytest.approx(0.02)
    assert projection.test == "exact McNemar"
    assert projection.n10 is not None
    assert projection.n01 is not None
    assert projection.n10 - projection.n01 == 20
    joint = of_kind(attribution, "joint")
    assert joint[(PROMPT, DECODE)].estimate == pytest.approx(0.04)
    not_run = {(effect.kind, effect.toggles) for effect in attribution.effects if not effect.ran}
    assert ("leave_one_out", (PROMPT,)) in not_run
    assert ("shapley", (PROJECTION,)) in not_run
    for effect in attribution.effects:
        if not effect.ran:
            numbers = (effect.estimate, effect.low, effect.high, effect.p, effect.p_adjusted, effect.n10, effect.n01)
            assert numbers == (None,) * 7
            assert effect.reason
    kl = of_kind(attribution, "leave_one_out")[(KL,)]
    assert not kl.ran
    assert "on in every run" in kl.reason
    assert attribution.fixed == {KL: True}
    assert of_kind(attribution, "add_one_in")[(PROMPT,)].reason == "no run with kl_alignment + prompt_alignment"


def test_steps_of_a_ladder() -> None:
    ladder = [frozenset(TOGGLES[:k]) for k in range(1, 5)]
    attribution = attribute(made(lambda cell: 0.5 + 0.05 * len(cell), ladder), TOGGLES)
    assert of_kind(attribution, "add_one_in")[(PROMPT,)].estimate == pytest.approx(0.05)
    assert of_kind(attribution, "step")[(DECODE,)].estimate == pytest.approx(0.05)
    assert of_kind(attribution, "leave_one_out")[(PROJECTION,)].estimate == pytest.approx(0.05)


def test_a_chain_has_steps_between_neighbours_alone() -> None:
    """From nothing to a, from a to ab, from ab to abc: nothing joins two cells that have a third between them."""
    abc = TOGGLES[:3]
    chain_of = [frozenset(abc[:k]) for k in range(4)]
    attribution = attribute(made(lambda cell: 0.5 + 0.05 * len(cell), chain_of), abc)
    ran = {(effect.kind, effect.toggles): effect.given for effect in attribution.effects if effect.ran}
    assert ran == {
        ("add_one_in", (KL,)): (),
        ("step", (PROMPT,)): (KL,),
        ("leave_one_out", (DECODE,)): (KL, PROMPT),
    }


def test_a_step_has_the_difference_of_its_two_cells_and_says_what_was_given() -> None:
    ladder = [frozenset(TOGGLES[:k]) for k in range(1, 5)]
    cells = made(lambda cell: 0.5 + 0.05 * len(cell), ladder)
    step = of_kind(attribute(cells, TOGGLES), "step")[(DECODE,)]
    n10, n01 = discordant(cells[ladder[2]][0], cells[ladder[1]][0])
    assert step.given == (KL, PROMPT)
    assert (step.n10, step.n01) == (n10, n01)
    assert (step.low, step.high) == paired_interval(n10, n01, 1000)
    assert step.p == mcnemar_exact(n10, n01)


def test_a_complete_design_has_neither_steps_nor_joint_effects() -> None:
    attribution = attribute(made(additive, subsets(TOGGLES[:2])), TOGGLES[:2])
    assert {effect.kind for effect in attribution.effects} == set(get_args(Kind)) - {"step", "joint"}
    assert (attribution.full, attribution.base) == (frozenset(TOGGLES[:2]), frozenset())


def test_steps_and_joint_effects_are_in_the_order_of_what_is_given() -> None:
    cells = [frozenset(s) for s in ((), (PROMPT,), (KL,), (KL, PROMPT), TOGGLES)]
    attribution = attribute(made(additive, cells), TOGGLES)
    found = [(e.kind, e.toggles, e.given) for e in attribution.effects if e.kind in ("step", "joint")]
    steps = [("step", (KL,), (PROMPT,)), ("step", (PROMPT,), (KL,))]
    assert found == [*steps, ("joint", (DECODE, PROJECTION), (KL, PROMPT))]
    wider = [*cells, frozenset((PROJECTION, KL, DECODE))]
    attribution = attribute(made(additive, wider), TOGGLES)
    found = [(e.kind, e.toggles, e.given) for e in attribution.effects if e.kind in ("step", "joint")]
    joint = [("joint", (DECODE, PROJECTION), given) for given in ((KL,), (KL, PROMPT))]
    assert found == [*steps, *joint]


def test_what_was_not_run_is_named_up_to_three_configurations() -> None:
    two = made(additive, [frozenset(TOGGLES[:2]), frozenset(TOGGLES[:1])])
    reasons = {(e.kind, e.toggles): e.reason for e in attribute(two, TOGGLES).effects}
    assert reasons["leave_one_out", (KL,)] == "kl_alignment is on in every run"
    assert reasons["add_one_in", (DECODE,)] == "decode_aware is off in every run"
    ends = made(additive, [frozenset(TOGGLES), frozenset((KL, PROMPT)), frozenset((PROMPT,))])
    reasons = {(e.kind, e.toggles): e.reason for e in attribute(ends, TOGGLES).effects}
    assert reasons["leave_one_out", (KL,)] == "no run with prompt_alignment + decode_aware + geometry_projection"
    three = made(additive, [frozenset(TOGGLES[:3]), frozenset()])
    reasons = {(e.kind, e.toggles): e.reason for e in attribute(three, TOGGLES).effects}
    assert reasons["interaction_at_base", (KL, PROMPT)] == (
        "no run with kl_alignment + prompt_alignment, nor with kl_alignment, nor with prompt_alignment"
    )
    assert reasons["shapley", (KL,)] == "6 of the configurations it needs were not run"
    one = made(additive, [frozenset((KL,)), frozenset((PROMPT,))])
    reasons = {(e.kind, e.toggles): e.reason for e in attribute(one, TOGGLES).effects}
    assert reasons["add_one_in", (KL,)] == "no run with all toggles off"
    assert reasons["interaction_at_base", (KL, PROMPT)] == (
        "no run with kl_alignment + prompt_alignment, nor with all toggles off"
    )


def test_p_values_of_the_sweep_are_corrected_among_themselves() -> None:
    attribution = attribute(made(additive, subsets()), TOGGLES)
    for correction in ("holm", "fdr_bh"):
        family = [e for e in attribution.effects if e.correction == correction and e.ran]
        assert all(e.p is not None for e in family)
        if correction == "fdr_bh":
            assert [e.p_adjusted for e in family] == pytest.approx(adjust([e.p for e in family], "fdr_bh"))


def test_an_effect_on_the_level_or_the_floor_is_not_shown() -> None:
    floor = NoiseFloor(typical=0.02, largest=0.03, deviation=0.01, pairs=1, degrees_of_freedom=1)
    numbers = {"kind": "leave_one_out", "toggles": (KL,), "estimate": 0.1, "p": 0.01}
    assert Effect(**numbers, p_adjusted=0.049).shown(floor)  # type: ignore[arg-type]
    assert not Effect(**numbers, p_adjusted=0.05).shown(floor)  # type: ignore[arg-type]
    assert not Effect(**numbers, p_adjusted=None).shown(floor)  # type: ignore[arg-type]
    assert not Effect(**{**numbers, "estimate": -0.02}, p_adjusted=0.01).shown(floor)  # type: ignore[arg-type]
    assert Effect(**{**numbers, "estimate": -0.021}, p_adjusted=0.01).shown(floor)  # type: ignore[arg-type]


def test_one_ablation_is_one_hypothesis() -> None:
    two = made(lambda cell: 0.60 if PROJECTION in cell else 0.58, [frozenset(TOGGLES), frozenset(TOGGLES[:3])])
    effect = of_kind(attribute(two, TOGGLES), "leave_one_out")[(PROJECTION,)]
    assert effect.p == effect.p_adjusted


def test_family_is_holm_and_the_rest_benjamini_hochberg() -> None:
    attribution = attribute(made(additive, subsets()), TOGGLES)
    assert {e.correction for e in attribution.effects if e.kind in ("leave_one_out", "add_one_in")} == {"holm"}
    assert {e.correction for e in attribution.effects if e.kind in ("shapley", "interaction_at_full")} == {"fdr_bh"}
    assert all(
        e.p_adjusted >= e.p for e in attribution.effects if e.ran and e.p is not None and e.p_adjusted is not None
    )
    swept = attribute(made(additive, subsets()), TOGGLES, family=())
    assert {e.correction for e in swept.effects} == {"fdr_bh"}


def test_seeds_give_a_noise_floor_and_a_wider_interval() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.beta(1.3, 0.7, 800)

    def cell(mean: float, shifts: tuple[float, ...]) -> np.ndarray:
        return rng.random((len(shifts), 800)) < np.clip(difficulty + mean + np.array(shifts)[:, None], 0, 1)

    full, without = frozenset(TOGGLES), frozenset(TOGGLES[:3])
    calm = attribute({full: cell(0, (0, 0, 0)), without: cell(-0.05, (0, 0, 0))}, TOGGLES)
    restless = attribute({full: cell(0, (-0.1, 0, 0.1)), without: cell(-0.05, (-0.1, 0, 0.1))}, TOGGLES)
    calm_effect, restless_effect = (
        of_kind(attribution, "leave_one_out")[(PROJECTION,)] for attribution in (calm, restless)
    )
    assert calm_effect.test == "Student's t"
    assert restless_effect.high - restless_effect.low > 2 * (calm_effect.high - calm_effect.low)
    assert calm.noise_floor is not None
    assert restless.noise_floor is not None
    assert restless.noise_floor.largest > 0.1 > calm.noise_floor.largest
    assert not restless_effect.shown(restless.noise_floor)


def test_an_effect_below_the_noise_floor_is_not_shown_however_small_its_p() -> None:
    cells = made(additive, [frozenset(TOGGLES), frozenset(TOGGLES) - {KL}], items=5_000)
    rng = np.random.default_rng(0)
    effect = of_kind(attribute(cells, TOGGLES), "leave_one_out")[(KL,)]
    assert effect.shown(None)
    cells[frozenset(TOGGLES)] = np.concatenate([cells[frozenset(TOGGLES)], rng.random((1, 5_000)) < 0.3])
    attribution = attribute(cells, TOGGLES)
    assert attribution.noise_floor is not None
    assert not effect.shown(attribution.noise_floor)


def test_deterministic() -> None:
    cells = made(additive, subsets(), items=200)
    assert attribute(cells, TOGGLES).effects == attribute(cells, TOGGLES).effects


def test_if_no_toggle_varied_every_effect_is_not_run() -> None:
    attribution = attribute(made(additive, [frozenset(TOGGLES)]), TOGGLES)
    assert not any(effect.ran for effect in attribution.effects)
    assert {effect.toggles[0] for effect in attribution.effects if effect.kind == "leave_one_out"} == set(TOGGLES)
    assert attribute({}, TOGGLES).effects == []


def test_up_to_three_missing_configurations_are_named_and_more_are_counted() -> None:
    def reasons(*cells: tuple[str, ...]) -> dict[tuple[str, tuple[str, ...]], str]:
        attribution = attribute(made(additive, [frozenset(cell) for cell in cells]), TOGGLES)
        return {(effect.kind, effect.toggles): effect.reason for effect in attribution.effects if not effect.ran}

    found = reasons((KL, PROMPT), (), (PROJECTION,))
    assert found["add_one_in", (KL,)] == "no run with kl_alignment"
    assert found["interaction_at_base", (KL, PROMPT)] == "no run with kl_alignment, nor with prompt_alignment"
    assert found["interaction_at_full", (KL, PROMPT)] == (
        "no run with kl_alignment + prompt_alignment + geometry_projection, "
        "nor with prompt_alignment + geometry_projection, nor with kl_alignment + geometry_projection"
    )
    assert found["shapley", (KL,)] == "5 of the configurations it needs were not run"
    found = reasons((KL, PROMPT, PROJECTION), (DECODE,))
    assert found["add_one_in", (DECODE,)] == "no run with all toggles off"
    assert found["interaction_at_base", (KL, PROMPT)] == "4 of the configurations it needs were not run"


def test_a_step_of_several_seeds_is_the_difference_of_the_means() -> None:
    rng = np.random.default_rng(5)
    cells = {frozenset(TOGGLES[:k]): rng.random((2, 400)) < 0.4 + 0.1 * k for k in range(4)}
    step = of_kind(attribute(cells, TOGGLES[:3]), "step")[(PROMPT,)]
    first, second = cells[frozenset(TOGGLES[:2])], cells[frozenset(TOGGLES[:1])]
    assert step.test == "Student's t"
    assert step.estimate == pytest.approx(float(first.mean() - second.mean()))


def test_a_design_that_lacks_one_configuration_has_steps_around_it() -> None:
    abc = TOGGLES[:3]
    cells = [cell for cell in subsets(abc) if cell != {KL, PROMPT}]
    ran = [effect for effect in attribute(made(additive, cells), abc).effects if effect.ran]
    assert ((DECODE,), (KL,)) in [(effect.toggles, effect.given) for effect in ran if effect.kind == "step"]


def test_no_cells_have_no_effects_and_nothing_to_measure_from() -> None:
    nothing = attribute({}, TOGGLES)
    assert (nothing.effects, nothing.fixed, nothing.full, nothing.base) == ([], {}, frozenset(), frozenset())
    assert nothing.noise_floor is None
