"""Searcher and stopper as Tune calls them: they agree, also as two copies after a restore."""

import pickle
from pathlib import Path

import pytest

from ray_bridge import tiny, tiny_run
from tune_spaces.design import phases
from tune_spaces.design.plan import make_plan
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.search_space import search_space
from tune_spaces.ray_tune.searcher import VariantSearcher
from tune_spaces.ray_tune.stopper import GateStopper
from tune_spaces.records.campaign_folder import CampaignFolder


class Driver:
    """Calls stopper and searcher as Tune's controller does: the result, the result again with `done`, completion."""

    def __init__(self, folder: Path, accuracies: dict[str, float]) -> None:
        planned = make_plan(phases.phase1(tiny()), tiny())
        self.trials, self.accuracies = planned.trials, accuracies
        tree = Policy(first=planned.first, branches=planned.branches)
        self.searcher = VariantSearcher(tree, planned.trials, CampaignFolder(folder / "c"), tiny_run())
        self.stopper = GateStopper(tree)
        self.order: list[str] = []

    def restore(self, folder: Path) -> None:
        """Replace stopper and searcher by copies, as Tune does when it restores an experiment."""
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
    suggested = Driver(tmp_path, {}).begin("t0")
    assert suggested is not None
    assert all(suggested[name] in domain.categories for name, domain in search_space().items())
    assert (Path(str(suggested["folder"])) / "spec.json").is_file()
