"""What the policy asks for, for each outcome of the gate and in each mode."""

from pathlib import Path

import numpy as np
import pytest

from bridge_common.files import write_jsonl
from bridge_common.intervals import wilson
from tune_spaces.gate.decision import Decision, GateSettings, Mode
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


@pytest.mark.parametrize(
    ("accuracy", "order"),
    [(0.72, ["full", "k"]), (0.67, ["full", "B", "C", "k"]), (0.5, ["full", "A", "B", "C", "k"]), (None, ["full"])],
)
def test_what_runs_beside_is_never_read_by_the_gate(accuracy: float | None, order: list[str]) -> None:
    results = {"full": accuracy, "A": 0.1, "B": 0.9, "C": 0.5, "k": 0.99}
    tree, alone = policy(beside=("k",)), policy()
    assert run_all(tree, results) == order
    run_all(alone, results)
    assert tree.record() == alone.record()
    assert not tree.follows_gate("k")
    assert tree.follows_gate("B")


def test_what_runs_beside_may_start_before_the_gate_has_decided() -> None:
    tree = policy(beside=("k",))
    assert tree.ready() == ["full", "k"]
    tree.observe("k", outcome(None))
    assert (tree.ready(), tree.failed_first) == (["full"], None)


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


def test_settings_of_the_gate_decide_and_not_the_defaults() -> None:
    settings = GateSettings(passes=0.9, attribute=0.5, level=0.5)
    tree = policy(gate=settings)
    assert run_all(tree, {"full": 0.72, "B": 0.5, "C": 0.5}) == ["full", "B", "C"]
    (decision,) = tree.decisions()
    assert decision.settings == settings
    assert (decision.evidence.low, decision.evidence.high) == wilson(7200, 10_000, 0.5)


def test_the_gate_waits_for_all_seeds_and_decides_on_their_mean() -> None:
    tree = policy(first=("full", "full-s1"))
    assert run_all(tree, {"full": 0.72, "full-s1": 0.66, "B": 0.5, "C": 0.5}) == ["full", "full-s1", "B", "C"]


CONFIDENT = GateSettings(mode=Mode.CONFIDENT)


def test_confident_mode_asks_until_it_is_certain() -> None:
    tree = policy(gate=CONFIDENT, extras=("more", "s1", "s2"))
    assert run_all(tree, {"full": 0.71, "more": 0.73, "s1": 0.90, "s2": 0.9}, n=300) == ["full", "more", "s1"]
    assert tree.record()["passed"]
    assert [d["uncertain"] for d in tree.record()["decisions"]] == [True, True, False]


def test_confident_mode_ends_with_its_budget() -> None:
    tree = policy(gate=CONFIDENT, extras=("more", "s1"))
    results = {"full": 0.69, "more": 0.69, "s1": 0.69, "B": 0.5, "C": 0.5}
    assert run_all(tree, results, n=100) == ["full", "more", "s1", "B", "C"]
    assert tree.record()["uncertain"]
    assert tree.record()["status"] == "decided"


def test_a_failed_further_run_stops_everything() -> None:
    tree = policy(gate=CONFIDENT, extras=("more", "s1"))
    assert run_all(tree, {"full": 0.69, "more": None}, n=100) == ["full", "more"]
    assert tree.record()["status"] == "failed"
    assert tree.record()["failed"] == "more"
    assert tree.wanted() == ["full", "more"]


def test_confident_mode_asks_for_one_further_run_at_a_time() -> None:
    tree = policy(gate=CONFIDENT, extras=("more", "s1", "s2"))
    tree.observe("full", outcome(0.69, 100))
    assert tree.wanted() == ["full", "more"]
    tree.observe("more", outcome(0.69, 100))
    assert tree.wanted() == ["full", "more", "s1"]


def test_further_runs_are_decided_with_the_settings_of_the_gate() -> None:
    settings = GateSettings(passes=0.9, attribute=0.5, level=0.8, mode=Mode.CONFIDENT)
    tree = policy(gate=settings, extras=("more",))
    results = {"full": 0.88, "more": 0.92, "B": 0.5, "C": 0.5}
    assert run_all(tree, results, n=100) == ["full", "more"]
    last = tree.decisions()[-1]
    assert last.settings == settings
    assert last.evidence.runs == 2
    assert (last.evidence.low, last.evidence.high) == wilson(90, 100, 0.95)  # a quarter of the error for each look


def test_looks_that_contradict_one_another_are_not_certain() -> None:
    """71 % and then 33 % on 2,000 items: their mean, 52 %, lies far below 65 %, but which runs are trained decides."""
    tree = policy(gate=CONFIDENT, extras=("more", "s1", "s2"))
    results = {"full": 0.71, "more": 0.33, "s1": 0.52, "s2": 0.52, "A": 0.5, "B": 0.5, "C": 0.5}
    assert run_all(tree, results, n=2000) == ["full", "more", "s1", "s2", "A", "B", "C"]
    decisions = tree.record()["decisions"]
    assert [d["contradicts"] for d in decisions] == [False, True, True, True]
    assert [d["uncertain"] for d in decisions] == [True] * 4
    assert decisions[0]["doubt"] == "the interval straddles a boundary"
    assert "runs differ by more than items explain" in decisions[3]["doubt"]
    assert tree.record()["uncertain"]


def test_a_further_run_whose_clusters_are_answered_alike_takes_back_nothing(tmp_path: Path) -> None:
    """The first run answers independently of the clusters; the second all of a cluster right or wrong."""
    tree = policy(gate=CONFIDENT, extras=("more",))
    for name, answers in (("full", [i % 3 > 0 for i in range(90)]), ("more", [i // 10 % 3 > 0 for i in range(90)])):
        rows = [{"id": i, "bridged_correct": a, "cluster": i // 10} for i, a in enumerate(answers)]
        write_jsonl(tmp_path / name / "samples.jsonl", rows)
        tree.observe(name, Outcome(accuracy=2 / 3, correct=60, n=90, folder=str(tmp_path / name)))
    first, second = (decision.evidence for decision in tree.decisions())
    assert second.effective_n >= first.effective_n
    assert first.low <= second.low <= second.high <= first.high


def test_what_was_decided_stays_and_a_certain_decision_is_the_last() -> None:
    rng = np.random.default_rng(1)
    certain = 0
    for _ in range(200):
        accuracies = np.clip(rng.normal(rng.choice([0.6, 0.65, 0.7, 0.75]), 0.03, 4), 0, 1)
        tree = policy(gate=CONFIDENT, extras=("more", "s1", "s2"))
        seen: list[Decision] = []
        for name, accuracy in zip(("full", "more", "s1", "s2"), accuracies, strict=True):
            tree.observe(name, outcome(float(accuracy), 500))
            made = tree.decisions()
            assert made[: len(seen)] == seen
            if seen and not seen[-1].uncertain:
                assert made == seen
            seen = made
        assert all(decision.uncertain for decision in seen[:-1])
        certain += not seen[-1].uncertain and len(seen) < 4
    assert 20 < certain < 180


def test_confident_mode_asks_nothing_if_the_first_run_is_certain() -> None:
    tree = policy(gate=CONFIDENT, extras=("more",))
    assert run_all(tree, {"full": 0.9}) == ["full"]


def test_plain_mode_ignores_uncertainty() -> None:
    assert run_all(policy(extras=("more",)), {"full": 0.70}, n=100) == ["full"]


SETTINGS = {"passes": 0.7, "attribute": 0.65, "level": 0.95, "mode": "plain", "budget": 3}
PRIOR = "posterior of the accuracy under Jeffreys' prior, Beta(1/2, 1/2)"


def test_the_record_of_a_gate_without_evidence_is_open() -> None:
    assert policy().record() == {
        "settings": SETTINGS,
        "status": "open",
        "failed": None,
        "passed": False,
        "branch": None,
        "uncertain": None,
        "decisions": [],
        "probabilities_from": PRIOR,
    }


def test_the_record_of_a_decision_has_its_branch_and_its_settings() -> None:
    tree = policy(gate=GateSettings(passes=0.8, attribute=0.6, level=0.9, mode=Mode.PLAIN, budget=1))
    run_all(tree, {"full": 0.67, "B": 0.5, "C": 0.5})
    record = tree.record()
    assert record["settings"] == {"passes": 0.8, "attribute": 0.6, "level": 0.9, "mode": "plain", "budget": 1}
    assert (record["status"], record["branch"], record["passed"]) == ("decided", "attribute", False)
    assert record["uncertain"] is False
    assert record["decisions"] == [decision.record() for decision in tree.decisions()]


def test_the_record_follows_the_last_decision() -> None:
    tree = policy(gate=CONFIDENT, extras=("more", "s1"))
    tree.observe("full", outcome(0.66, 300))
    assert (tree.record()["status"], tree.record()["branch"], tree.record()["uncertain"]) == ("open", None, True)
    tree.observe("more", outcome(0.89, 300))
    tree.observe("s1", outcome(0.89, 300))
    record = tree.record()
    assert [decision["branch"] for decision in record["decisions"]] == ["attribute", "pass"]
    assert (record["status"], record["branch"], record["uncertain"]) == ("decided", "pass", False)
