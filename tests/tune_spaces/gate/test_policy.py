"""The walk through the tree, and that stopper and searcher walk it together, also as two copies."""

import pickle
from pathlib import Path

import pytest

from ray_bridge.config.presets import tiny, tiny_run
from tune_spaces.design import phases, plan
from tune_spaces.gate.decision import GateSettings, Mode
from tune_spaces.gate.evidence import Outcome
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.searcher import VariantSearcher
from tune_spaces.ray_tune.stopper import GateStopper

BRANCHES = {"pass": (), "attribute": ("B", "C"), "attribute_all": ("A", "B", "C")}


def policy(**changes: object) -> Policy:
    return Policy(**{"first": ("full",), "branches": BRANCHES, **changes})  # type: ignore[arg-type]


def outcome(accuracy: float | None, n: int = 10_000) -> Outcome:
    correct = None if accuracy is None else round(accuracy * n)
    return Outcome(accuracy=accuracy, correct=correct, n=n)


def walk(walker: Policy, results: dict[str, float | None], n: int = 10_000) -> list[str]:
    order = []
    while (name := walker.next()) is not None:
        order.append(name)
        walker.observe(name, outcome(results[name], n))
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
    assert walk(policy(), {"full": accuracy, "A": 0.1, "B": 0.9, "C": 0.5}) == order


def test_a_failed_first_trial_says_so() -> None:
    walker = policy()
    walk(walker, {"full": None})
    assert walker.record()["status"] == "failed"
    assert walker.record()["failed"] == "full"
    assert not walker.record()["passed"]


def test_a_failed_later_trial_stops_nothing() -> None:
    assert walk(policy(), {"full": 0.67, "B": None, "C": 0.6}) == ["full", "B", "C"]


def test_without_a_gate_all_run_whatever_fails() -> None:
    walker = Policy(first=("a", "b", "c"))
    assert walk(walker, {"a": None, "b": 0.1, "c": 0.2}) == ["a", "b", "c"]
    assert walker.record()["status"] == "open"


def test_the_gate_waits_for_all_seeds_and_decides_on_their_mean() -> None:
    walker = policy(first=("full", "full-s1"))
    assert walk(walker, {"full": 0.72, "full-s1": 0.66, "B": 0.5, "C": 0.5}) == ["full", "full-s1", "B", "C"]


CONFIDENT = GateSettings(mode=Mode.CONFIDENT)


def test_confident_mode_asks_until_it_is_certain() -> None:
    walker = policy(gate=CONFIDENT, extras=("more", "s1", "s2"))
    assert walk(walker, {"full": 0.71, "more": 0.73, "s1": 0.85, "s2": 0.9}, n=300) == ["full", "more", "s1"]
    assert walker.record()["passed"]
    assert [d["uncertain"] for d in walker.record()["decisions"]] == [True, True, False]


def test_confident_mode_ends_with_its_budget() -> None:
    walker = policy(gate=CONFIDENT, extras=("more", "s1"))
    results = {"full": 0.69, "more": 0.69, "s1": 0.69, "B": 0.5, "C": 0.5}
    assert walk(walker, results, n=100) == ["full", "more", "s1", "B", "C"]
    assert walker.record()["uncertain"]
    assert walker.record()["status"] == "decided"


def test_confident_mode_asks_nothing_where_the_first_run_is_certain() -> None:
    walker = policy(gate=CONFIDENT, extras=("more",))
    assert walk(walker, {"full": 0.9}) == ["full"]


def test_plain_mode_ignores_uncertainty() -> None:
    assert walk(policy(extras=("more",)), {"full": 0.70}, n=100) == ["full"]


# -- stopper and searcher, as Tune drives them ---------------------------------------------------------------------


class Driver:
    """Calls stopper and searcher as Tune's controller does: result, its repetition with `done`, then completion."""

    def __init__(self, folder: Path, accuracies: dict[str, float]) -> None:
        planned = plan.build(phases.phase1(tiny()), tiny())
        self.trials, self.accuracies = planned.trials, accuracies
        walker = Policy(first=planned.first, branches=planned.branches)
        self.searcher = VariantSearcher(walker, planned.trials, folder, tiny_run())
        self.stopper = GateStopper(walker)
        self.order: list[str] = []

    def restore(self, folder: Path) -> None:
        """What a restored experiment has: two copies of the policy."""
        self.searcher.save(str(folder / "searcher.pkl"))
        self.searcher = pickle.loads(pickle.dumps(self.searcher))
        self.stopper = pickle.loads(pickle.dumps(self.stopper))
        self.searcher.restore(str(folder / "searcher.pkl"))
        assert self.searcher.policy is not self.stopper.policy

    def begin(self, trial_id: str) -> dict[str, object] | None:
        if self.stopper.stop_all():
            return None
        suggested = self.searcher.suggest(trial_id)
        if suggested == "FINISHED":
            return None
        assert isinstance(suggested, dict)
        self.order.append(suggested["variant"])
        assert self.searcher.suggest("another") is None, "one variant at a time"
        return suggested

    def end(self, trial_id: str, config: dict[str, object]) -> None:
        accuracy = self.accuracies[str(config["variant"])]
        result = {"accuracy/bridged": accuracy, "n": 1000, "final": True, "config": config}
        assert self.stopper(trial_id, result) is False
        assert not self.stopper.stop_all(), "must not end a trial that still runs"
        assert self.stopper(trial_id, {**result, "done": True}) is False
        self.searcher.on_trial_complete(trial_id, result=result)


@pytest.mark.parametrize("accuracy", [0.72, 0.67, 0.5])
@pytest.mark.parametrize("restore_at", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("in_trial", [True, False])
def test_restored_stopper_and_searcher_agree(
    tmp_path: Path, accuracy: float, restore_at: int | None, in_trial: bool
) -> None:
    driver = Driver(tmp_path, {"full": accuracy, "A": 0.9, "B": 0.9, "C": 0.9})
    number = 0
    while True:
        if number == restore_at and not in_trial:
            driver.restore(tmp_path)
        config = driver.begin(f"t{number}")
        if config is None:
            break
        if number == restore_at and in_trial:
            driver.restore(tmp_path)
        driver.end(f"t{number}", config)
        number += 1
        assert driver.stopper.policy.decisions() == driver.searcher.policy.decisions()
    expected = {0.72: ["full"], 0.67: ["full", "B", "C"], 0.5: ["full", "A", "B", "C"]}[accuracy]
    assert driver.order == expected
    assert driver.searcher.policy.finished


def test_an_error_of_full_ends_the_search(tmp_path: Path) -> None:
    driver = Driver(tmp_path, {})
    assert driver.begin("t0") is not None
    driver.searcher.on_trial_complete("t0", error=True)
    assert driver.searcher.suggest("t1") == "FINISHED"


def test_a_result_without_final_is_a_failure(tmp_path: Path) -> None:
    driver = Driver(tmp_path, {})
    driver.begin("t0")
    driver.searcher.on_trial_complete("t0", result={"accuracy/bridged": 0.9, "final": False})
    assert driver.searcher.policy.failed_first


def test_a_suggestion_is_a_point_of_the_search_space(tmp_path: Path) -> None:
    from tune_spaces.design.toggles import search_space

    suggested = Driver(tmp_path, {}).begin("t0")
    assert suggested is not None
    assert all(suggested[name] in domain.categories for name, domain in search_space().items())
    assert (Path(str(suggested["folder"])) / "spec.json").is_file()
