"""Which sentence of the appendix stands under the supported claims, and which does not."""

from typing import Any

import pytest

from tune_spaces.analysis.claims import Claims, make_claims
from tune_spaces.analysis.estimates import NoiseFloor
from tune_spaces.analysis.pairwise import PairedComparison
from tune_spaces.analysis.toggle_effects import Attribution, Effect

FLOOR = NoiseFloor(largest=0.02, deviation=0.01, pairs=1, degrees_of_freedom=1)


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
    return make_claims(pairs, gains, attribution(*effects) if effects else None, floor)


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
    assert line.startswith("kl: ")
    assert "(full-without-kl did not run; base-with-kl did not run)" in line
    assert not claims(effects=(*missing, effect(0.1, kind="step"))).not_supported, "one that ran is enough"


def test_an_interaction_is_no_effect_of_one_toggle() -> None:
    both = effect(0.1, kind="interaction_at_full", toggles=("kl", "prompt"))
    found = claims(effects=(both, effect(None), effect(None, toggles=("prompt",))))
    assert found.supported[0].startswith("kl × prompt (interaction next to full)")
    assert [line.split(":")[0] for line in found.not_supported] == ["kl", "prompt"]
