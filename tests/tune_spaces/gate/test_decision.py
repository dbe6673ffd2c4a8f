"""The gate: inclusive boundaries, uncertainty by the interval, probabilities that add up to 1."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge_common.errors import UserError
from tune_spaces.gate.decision import Branch, GateSettings, Mode, branch_of, decide
from tune_spaces.gate.evidence import Evidence, pool
from tune_spaces.gate.outcome import Outcome


def counted(correct: int, n: int) -> Evidence:
    return pool([Outcome(accuracy=correct / n if n else 0.0, correct=correct, n=n)])


def evidence(accuracy: float, n: int = 10_000) -> Evidence:
    return counted(round(accuracy * n), n)


@pytest.mark.parametrize(
    ("accuracy", "branch"),
    [
        (0.72, "pass"),
        (0.70, "pass"),
        (0.6999, "attribute"),
        (0.67, "attribute"),
        (0.65, "attribute"),
        (0.6499, "attribute_all"),
        (0.50, "attribute_all"),
        (0.0, "attribute_all"),
        (1.0, "pass"),
    ],
)
def test_branches(accuracy: float, branch: str) -> None:
    assert decide(evidence(accuracy)).branch == branch


@pytest.mark.parametrize("n", [20, 100, 500, 1320, 2000])
@pytest.mark.parametrize("boundary", [0.65, 0.70])
def test_counts_that_meet_a_boundary_exactly_are_above_it(n: int, boundary: float) -> None:
    correct = round(boundary * n)
    assert correct == pytest.approx(boundary * n)
    settings = GateSettings()
    above = Branch.PASS if boundary == settings.passes else Branch.SOME
    assert decide(counted(correct, n)).branch is above
    assert decide(counted(correct - 1, n)).branch is not above


def test_boundaries_are_settings() -> None:
    settings = GateSettings(passes=0.9, attribute=0.1)
    assert decide(evidence(0.72), settings).branch is Branch.SOME


def test_uncertain_exactly_if_the_interval_straddles_a_boundary() -> None:
    assert decide(evidence(0.72, 200)).uncertain
    assert not decide(evidence(0.72, 10_000)).uncertain
    assert not decide(evidence(0.30, 200)).uncertain
    assert decide(evidence(0.645, 1319)).uncertain  # the reference's 64.5 %


def test_nothing_known_is_uncertain() -> None:
    assert decide(counted(0, 0)).uncertain


@given(correct=st.integers(0, 400), n=st.integers(1, 400))
def test_probabilities_are_a_distribution_that_favours_the_side_of_certain_evidence(correct: int, n: int) -> None:
    correct = min(correct, n)
    made = decide(counted(correct, n))
    assert math.isclose(sum(made.probabilities.values()), 1, abs_tol=1e-9)
    assert min(made.probabilities.values()) >= -1e-12
    if not made.uncertain:
        assert made.probabilities[made.branch] > 0.9


def test_probabilities_agree_with_draws_from_the_posterior() -> None:
    from scipy.stats import beta

    made = decide(counted(129, 200))
    draws = beta(129.5, 71.5).rvs(200_000, random_state=0)
    assert made.probabilities["pass"] == pytest.approx((draws >= 0.7).mean(), abs=0.005)
    assert made.probabilities["attribute_all"] == pytest.approx((draws < 0.65).mean(), abs=0.005)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_better_accuracy_never_asks_for_more(one: float, other: float) -> None:
    order = [Branch.ALL, Branch.SOME, Branch.PASS]
    low, high = sorted((one, other))
    assert order.index(branch_of(low, GateSettings())) <= order.index(branch_of(high, GateSettings()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"passes": 0.5},
        {"passes": 1.2},
        {"attribute": -0.1},
        {"level": 1.0},
        {"level": 0.0},
        {"mode": "sure"},
        {"budget": -1},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        GateSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "allowed",
    [
        {"passes": 1.0},
        {"attribute": 0.0},
        {"passes": 0.65},
        {"passes": 0.0, "attribute": 0.0},
        {"budget": 0},
        {"mode": "confident"},
    ],
)
def test_settings_at_their_limits_are_accepted(allowed: dict[str, float]) -> None:
    GateSettings(**allowed)  # type: ignore[arg-type]


def test_a_mode_may_be_given_by_its_name() -> None:
    assert GateSettings(mode="confident").mode is Mode.CONFIDENT  # type: ignore[arg-type]


def test_a_decision_keeps_its_settings() -> None:
    settings = GateSettings(passes=0.9)
    assert decide(evidence(0.7), settings).settings is settings


def test_the_record_is_plain() -> None:
    import json

    record = json.loads(json.dumps(decide(evidence(0.67)).record()))
    assert record["branch"] == "attribute"
    assert record["n"] == 10_000
    assert record["settings"]["passes"] == 0.70


def test_each_look_of_confident_mode_takes_an_equal_share_of_the_error() -> None:
    assert GateSettings(budget=3).look_level == 0.95
    assert GateSettings(mode=Mode.CONFIDENT, budget=0).look_level == pytest.approx(0.95)
    assert GateSettings(mode=Mode.CONFIDENT, budget=3).look_level == pytest.approx(0.9875)
    assert GateSettings(mode=Mode.CONFIDENT, budget=4, level=0.9).look_level == pytest.approx(0.98)
