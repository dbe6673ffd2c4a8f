"""Which sentence of the appendix stands under the supported claims, and which does not."""

from dataclasses import replace
from typing import Any

import pytest

from tune_spaces.analysis.claims import Claims, effect_name, make_claims
from tune_spaces.analysis.noise_floor import NoiseFloor
from tune_spaces.analysis.paired_comparison import PairedComparison
from tune_spaces.analysis.toggle_effects import Attribution, Effect
from tune_spaces.analysis.verdicts import verdict

FLOOR = NoiseFloor(typical=0.02, largest=0.03, deviation=0.01, pairs=1, degrees_of_freedom=1)


def pair(difference: float, p: float = 0.001, *, a: str = "full", b: str = "B") -> PairedComparison:
    return PairedComparison(
        **{"a": a, "b": b, "n": 1000, "clusters": 1000, "runs": 1, "accuracy_a": 0.6 + difference, "accuracy_b": 0.6},
        **{"n10": 150, "n01": 50, "difference": difference, "ci_low": difference - 0.01, "ci_high": difference + 0.01},
        **{"p": p, "p_adjusted": p, "test": "exact", "detectable": 0.03},
    )


def effect(estimate: float | None, p: float = 0.001, **changes: Any) -> Effect:
    if estimate is None:
        return Effect(
            **{"kind": "leave_one_out", "toggles": ("kl",), "reason": "full-without-kl did not run", **changes}
        )
    numbers = {"estimate": estimate, "low": estimate - 0.01, "high": estimate + 0.01, "p": p, "p_adjusted": p}
    return Effect(**{"kind": "leave_one_out", "toggles": ("kl",), "test": "exact", **numbers, **changes})


def attribution(*effects: Effect) -> Attribution:
    off, on = frozenset[str](), frozenset({"kl", "prompt"})
    return Attribution(effects=list(effects), fixed={}, full=on, base=off, noise_floor=FLOOR)  # type: ignore[arg-type]


def claims(
    *pairs: PairedComparison,
    gains: tuple[PairedComparison, ...] = (),
    effects: tuple[Effect, ...] = (),
    floor: NoiseFloor | None = FLOOR,
) -> Claims:
    typical = None if floor is None else floor.typical
    compared, over = ([replace(one, floor=typical) for one in some] for some in (pairs, gains))
    return make_claims(compared, over, attribution(*effects) if effects else None, floor)


@pytest.mark.parametrize("difference", [0.10, -0.10])
def test_a_difference_that_is_shown_and_exceeds_the_noise_floor_is_supported(difference: float) -> None:
    found = claims(pair(difference))
    assert len(found.supported) == 1
    assert "full" in found.supported[0]
    assert "B" in found.supported[0]
    assert not found.not_supported


@pytest.mark.parametrize("difference", [0.015, -0.015, 0.02, -0.02])
def test_a_difference_within_the_noise_floor_is_not_supported_in_either_direction(difference: float) -> None:
    found = claims(pair(difference))
    assert not found.supported
    assert "(2.0 points), so it is no finding" in found.not_supported[0]


def test_a_difference_that_its_corrected_test_does_not_show_is_not_supported() -> None:
    assert claims(pair(0.10, p=0.05)).not_supported
    assert not claims(pair(0.10, p=0.05)).supported


def test_an_unknown_noise_floor_is_named_and_the_test_alone_decides() -> None:
    found = claims(pair(0.015), floor=None)
    assert len(found.supported) == 1
    assert found.not_supported == [line for line in found.not_supported if "No configuration ran twice" in line]
    assert len(found.not_supported) == 1


def test_only_a_positive_gain_over_a_baseline_is_a_benefit() -> None:
    better, worse, unclear = (
        pair(0.05, b="target_alone"),
        pair(-0.05, b="target_alone"),
        pair(0.05, p=0.2, b="shuffled_soft"),
    )
    found = claims(gains=(better, worse, unclear))
    assert len(found.supported) == 1
    assert "the bridge adds to what the target does alone" in found.supported[0]
    contradicted, not_shown = found.not_supported
    assert "is contradicted" in contradicted
    assert "was not shown" in not_shown
    assert "carry information about their own question" in not_shown


def test_a_gain_within_the_noise_floor_is_no_benefit() -> None:
    (line,) = claims(gains=(pair(0.015, b="target_alone"),)).not_supported
    assert "that the bridge adds to what the target does alone was not shown" in line
    assert "(2.0 points), so it is no finding" in line


def test_a_gain_over_anything_else_makes_no_claim() -> None:
    found = claims(gains=(pair(0.05, b="source_alone"), pair(0.05, b="random_soft")))
    assert found == Claims()


@pytest.mark.parametrize(("estimate", "word"), [(0.10, "raises"), (-0.10, "lowers")])
def test_the_effect_of_a_toggle_has_its_direction_its_size_and_the_noise_floor(estimate: float, word: str) -> None:
    found = claims(effects=(effect(estimate),))
    (line,) = found.supported
    assert line.startswith("kl (full against full without it)")
    assert f"{word} accuracy" in line
    assert "10.0 points" in line
    assert "noise floor 2.0 points" in line


def test_effects_within_the_noise_floor_or_not_shown_are_not_supported() -> None:
    within, unclear = effect(-0.015), effect(0.10, p=0.3, toggles=("prompt",))
    found = claims(effects=(within, unclear))
    assert not found.supported
    assert "so it is no finding" in found.not_supported[0]
    assert found.not_supported[1].startswith("prompt")
    assert "no effect was shown" in found.not_supported[1]


def test_a_toggle_none_of_whose_effects_ran_is_named_with_the_reasons() -> None:
    missing = effect(None), effect(None, kind="add_one_in", reason="base-with-kl did not run")
    (line,) = claims(effects=missing).not_supported
    assert line == (
        "Not run, so no effect can be estimated: kl (full-without-kl did not run; base-with-kl did not run)."
    )
    assert not claims(effects=(*missing, effect(0.1, kind="step"))).not_supported, "one that ran is enough"


def test_an_interaction_is_no_effect_of_one_toggle() -> None:
    both = effect(0.1, kind="interaction_at_full", toggles=("kl", "prompt"))
    found = claims(effects=(both, effect(None), effect(None, toggles=("prompt",))))
    assert found.supported[0].startswith("kl × prompt (interaction next to full)")
    (line,) = found.not_supported
    assert line == "Not run, so no effect can be estimated: kl, prompt (full-without-kl did not run)."


def test_claims_are_recorded_under_the_names_that_readers_of_old_appendices_know() -> None:
    assert Claims(supported=["a"], not_supported=["b", "c"]).as_json() == {"carried": ["a"], "not_carried": ["b", "c"]}


def test_the_sentence_of_a_difference_within_the_noise_floor_has_the_floor() -> None:
    (line,) = claims(pair(0.015), floor=replace(FLOOR, typical=0.037)).not_supported
    assert line.endswith(
        " It does not exceed what two runs of one configuration typically differ by (3.7 points), so it is no finding."
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"kind": "step", "given": ("prompt",)}, "kl (between neighbouring configurations, given prompt)"),
        ({"kind": "step"}, "kl (between neighbouring configurations)"),
        (
            {"kind": "joint", "toggles": ("kl", "decode"), "given": ("prompt", "projection")},
            "kl + decode (several at once, given prompt + projection)",
        ),
        ({"kind": "leave_one_out", "given": ("prompt",)}, "kl (full against full without it)"),
        ({"kind": "shapley"}, "kl (mean over all orders of switching on)"),
        ({"kind": "interaction_at_base", "toggles": ("kl", "decode")}, "kl × decode (interaction next to base)"),
    ],
)
def test_an_effect_is_named_by_its_toggles_its_kind_and_what_was_on_in_both_configurations(
    changes: dict[str, Any], name: str
) -> None:
    assert effect_name(effect(0.1, **changes)) == name


def test_what_an_effect_rests_on_stands_beside_it() -> None:
    exact = effect(0.10, p=0.0123, n10=30, n01=20, p_adjusted=0.0246)
    (line,) = claims(effects=(exact,)).supported
    assert line == (
        "kl (full against full without it): raises accuracy (+10.0 points, 95 % interval [+9.0, +11.0], "
        "30 : 20 discordant, exact p = 0.0123, corrected 0.0246, noise floor 2.0 points, "
        "between the trained runs)."
    )
    line, _ = claims(effects=(effect(-0.10, p=0.2, test="Student's t"),), floor=None).not_supported
    assert line == (
        "kl (full against full without it): no effect was shown (-10.0 points, 95 % interval [-11.0, -9.0], "
        "Student's t p = 0.2, corrected 0.2, noise floor not known, "
        "between the trained runs)."
    )


def test_what_a_gain_rests_on_stands_beside_it() -> None:
    (line,) = claims(gains=(replace(pair(0.05, p=0.0123, b="shuffled_soft"), p_adjusted=0.0246),)).supported
    assert line == (
        "full: the soft tokens carry information about their own question (+5.0 points over shuffled soft, "
        "95 % interval [+4.0, +6.0], 150 : 50 discordant, exact p = 0.0123, corrected 0.0246, n = 1000)."
    )


def test_a_pair_is_claimed_in_the_words_of_its_verdict_with_the_size_of_the_family() -> None:
    shown, unclear = (replace(one, comparisons=2) for one in (pair(0.10), pair(0.10, p=0.2, b="C")))
    found = claims(shown, unclear, floor=replace(FLOOR, typical=0.05))
    shown, unclear = (replace(one, floor=0.05) for one in (shown, unclear))
    assert "after correction for 2 comparisons" in found.supported[0]
    assert found.supported == [verdict(shown)]
    assert found.not_supported == [verdict(unclear)]
