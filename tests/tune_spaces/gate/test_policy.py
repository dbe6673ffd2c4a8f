"""What the policy asks for, for each outcome of the gate and in each mode."""

import pytest

from tune_spaces.gate.decision import GateSettings, Mode
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy

BRANCHES = {"pass": (), "attribute": ("B", "C"), "attribute_all": ("A", "B", "C")}


def policy(**changes: object) -> Policy:
    return Policy(**{"first": ("full",), "branches": BRANCHES, **changes})  # type: ignore[arg-type]


def outcome(accuracy: float | None, n: int = 10_000) -> Outcome:
    correct = None if accuracy is None else round(accuracy * n)
    return Outcome(accuracy=accuracy, correct=correct, n=n)


def run_all(tree: Policy, results: dict[str, float | None], n: int = 10_000) -> list[str]:
    order = []
    while (name := tree.next()) is not None:
        order.append(name)
        tree.observe(name, outcome(results[name], n))
    return order


@pytest.mark.parametrize(
    ("accuracy", "order"),
    [
        (0.70, ["full"]),
        (0.72, ["full"]),
        (0.65, ["full", "B", "C"]),
        (0.67, ["full", "B", "C"]),
        (0.6999, ["full", "B", "C"]),
        (0.6499, ["full", "A", "B", "C"]),
        (0.50, ["full", "A", "B", "C"]),
        (None, ["full"]),
    ],
)
def test_what_runs(accuracy: float | None, order: list[str]) -> None:
    assert run_all(policy(), {"full": accuracy, "A": 0.1, "B": 0.9, "C": 0.5}) == order


def test_a_failed_first_trial_says_so() -> None:
    tree = policy()
    run_all(tree, {"full": None})
    assert tree.record()["status"] == "failed"
    assert tree.record()["failed"] == "full"
    assert not tree.record()["passed"]


def test_a_failed_later_trial_stops_nothing() -> None:
    assert run_all(policy(), {"full": 0.67, "B": None, "C": 0.6}) == ["full", "B", "C"]


def test_without_a_gate_all_run_whatever_fails() -> None:
    tree = Policy(first=("a", "b", "c"))
    assert run_all(tree, {"a": None, "b": 0.1, "c": 0.2}) == ["a", "b", "c"]
    assert tree.record()["status"] == "open"


def test_the_gate_waits_for_all_seeds_and_decides_on_their_mean() -> None:
    tree = policy(first=("full", "full-s1"))
    assert run_all(tree, {"full": 0.72, "full-s1": 0.66, "B": 0.5, "C": 0.5}) == ["full", "full-s1", "B", "C"]


CONFIDENT = GateSettings(mode=Mode.CONFIDENT)


def test_confident_mode_asks_until_it_is_certain() -> None:
    tree = policy(gate=CONFIDENT, extras=("more", "s1", "s2"))
    assert run_all(tree, {"full": 0.71, "more": 0.73, "s1": 0.85, "s2": 0.9}, n=300) == ["full", "more", "s1"]
    assert tree.record()["passed"]
    assert [d["uncertain"] for d in tree.record()["decisions"]] == [True, True, False]


def test_confident_mode_ends_with_its_budget() -> None:
    tree = policy(gate=CONFIDENT, extras=("more", "s1"))
    results = {"full": 0.69, "more": 0.69, "s1": 0.69, "B": 0.5, "C": 0.5}
    assert run_all(tree, results, n=100) == ["full", "more", "s1", "B", "C"]
    assert tree.record()["uncertain"]
    assert tree.record()["status"] == "decided"


def test_confident_mode_asks_nothing_if_the_first_run_is_certain() -> None:
    tree = policy(gate=CONFIDENT, extras=("more",))
    assert run_all(tree, {"full": 0.9}) == ["full"]


def test_plain_mode_ignores_uncertainty() -> None:
    assert run_all(policy(extras=("more",)), {"full": 0.70}, n=100) == ["full"]
