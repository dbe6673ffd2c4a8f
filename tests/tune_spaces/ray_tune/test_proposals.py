"""A sweep by Optuna: it learns, proposes the same from the same seed, and goes on after any stop as without one."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge import tiny, tiny_run
from tests.support.ray_searches import SearchDriver
from tune_spaces.campaign import Campaign
from tune_spaces.design.search import parse_axis
from tune_spaces.design.sweep import sweep

OVER = ("learning_rate=log:1e-5:1e-1", "soft_tokens=4,8,16")


def make(folder: Path, *over: str, trials: int = 24, seed: int = 0, **how: Any) -> Campaign:
    phase = sweep(tiny(), [parse_axis(text) for text in over or OVER], search="optuna", trials=trials, **how)
    return Campaign(phase, tiny(), tiny_run(), storage=folder, name="c", seeds=(seed,))


def peak(spec: dict[str, Any]) -> float:
    """Return an accuracy that is best at a learning rate of 1e-3 with 16 soft tokens."""
    return 0.9 - 0.1 * abs(math.log10(spec["learning_rate"]) + 3) - 0.01 * (16 - spec["soft_tokens"])


def points(campaign: Campaign) -> list[tuple[Any, ...]]:
    specs = [trial.spec.flat() for trial in campaign.plan.trials.values()]
    return [(spec["learning_rate"], spec["soft_tokens"]) for spec in specs]


def test_it_comes_closer_to_the_best_point(tmp_path: Path) -> None:
    campaign = make(tmp_path, trials=40)
    SearchDriver(campaign, peak).run()
    assert len(campaign.plan.trials) == len(set(points(campaign))) == 40
    values = [peak(trial.spec.flat()) for trial in campaign.plan.trials.values()]
    assert sum(values[25:]) / 15 > 0.79, "points at random have 0.73 on average"
    assert all(1e-5 <= rate <= 1e-1 for rate, _ in points(campaign))
    assert campaign.policy().finished


def test_the_same_seed_proposes_the_same_and_another_one_others(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        campaign = make(tmp_path / name, seed=seed, trials=15)
        SearchDriver(campaign, peak).run()
        found.append(points(campaign))
    assert found[0] == found[1]
    assert not set(found[0]) & set(found[2])


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("at", [1, 7, 13])
def test_a_search_whose_driver_died_goes_on_as_if_it_had_not(tmp_path: Path, parallel: int, at: int) -> None:
    """With 3 at once, two trials are in flight when the driver dies: they go on and are not proposed again."""
    whole = make(tmp_path / "whole", trials=18)
    SearchDriver(whole, peak, parallel=parallel).run()
    cut = make(tmp_path / "cut", trials=18)
    before = SearchDriver(cut, peak, parallel=parallel)
    before.run(until=at)
    again = Campaign.load(tmp_path / "cut", "c")
    assert points(again) == points(whole)[: len(points(again))]
    after = SearchDriver(again, peak, parallel=parallel)
    after.run()
    assert points(again) == points(whole)
    assert not set(before.ended) & set(after.ended)
    assert sorted(before.ended + after.ended) == sorted(again.plan.trials)
    assert Campaign.load(tmp_path / "cut", "c").policy().finished


@pytest.mark.slow
def test_stopped_and_failed_trials_count_as_what_they_are(tmp_path: Path) -> None:
    """Of two searches one sees its best trials stopped early: it proposes others, before and after a restart."""

    def stops(spec: dict[str, Any]) -> bool:
        return spec["soft_tokens"] == 16

    whole, plain = make(tmp_path / "whole", trials=16), make(tmp_path / "plain", trials=16)
    SearchDriver(plain, peak).run()
    SearchDriver(whole, peak, stops=stops).run()
    cut = make(tmp_path / "cut", trials=16)
    SearchDriver(cut, peak, stops=stops).run(until=13)
    again = Campaign.load(tmp_path / "cut", "c")
    SearchDriver(again, peak, stops=stops).run()
    assert points(again) == points(whole) != points(plain)

    failing = make(tmp_path / "failing", trials=16)
    driver = SearchDriver(failing, lambda spec: None if spec["soft_tokens"] == 4 else peak(spec))
    driver.run()
    assert len(failing.plan.trials) == 16
    failed = {name for name, trial in failing.plan.trials.items() if trial.spec.soft_tokens == 4}
    assert failed == {name for name, outcome in driver.policy.outcomes.items() if outcome.failed}
    assert not Campaign.load(tmp_path / "failing", "c").policy().finished, "what failed is tried again"


def test_a_small_space_is_searched_whole_without_impossible_points(tmp_path: Path) -> None:
    """A width of 128 has no three heads; no point comes twice."""
    campaign = make(tmp_path, "soft_tokens=4,8", "num_heads=int:1:4", trials=50, among=["kl"])
    driver = SearchDriver(campaign, lambda spec: 0.5 + 0.1 * spec["kl_alignment"])
    driver.run()
    specs = [trial.spec.flat() for trial in campaign.plan.trials.values()]
    found = {(spec["soft_tokens"], spec["num_heads"], spec["kl_alignment"]) for spec in specs}
    assert found == {(k, heads, on) for k in (4, 8) for heads in (1, 2, 4) for on in (True, False)}
    assert len(specs) == 12
    assert Campaign.load(tmp_path, "c").policy().finished


def test_other_settings_are_another_search(tmp_path: Path) -> None:
    SearchDriver(make(tmp_path, trials=4), peak).run(until=2)
    with pytest.raises(
        UserError, match=r"search was 4 trials over learning_rate=log:1e-05:0\.1, soft_tokens=4,8,16, now"
    ):
        make(tmp_path, trials=5).freeze()
    make(tmp_path, trials=4).freeze()


def test_results_of_other_campaigns_are_taken_and_learned_from(tmp_path: Path) -> None:
    first = make(tmp_path, trials=6)
    SearchDriver(first, peak).run()
    second = make(tmp_path, trials=6)
    second.name = "another"
    driver = SearchDriver(second, peak)
    driver.run()
    assert driver.ended == []
    assert points(second) == points(first)


def test_several_seeds_are_refused() -> None:
    phase = make(Path("unused")).phase
    with pytest.raises(UserError, match="a search compares trials of one seed"):
        Campaign(phase, tiny(), tiny_run(), seeds=(0, 1))


@pytest.mark.parametrize("command", [["sweep"], ["resume"]])
def test_without_optuna_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    from cluster.cli.app import main

    if command == ["resume"]:
        campaign = make(tmp_path)
        campaign.freeze()
        campaign._record_start([], {})
    else:
        command = ["sweep", "--over", "learning_rate=log:1e-5:1e-3", "--search", "optuna"]
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr(sys, "argv", ["cluster", *command, "--storage", str(tmp_path)])
    assert main() == 2
    said = capsys.readouterr().err
    assert said.strip().endswith(
        "error: --search optuna: it is not installed: pip install 'ray-bridge[sweep]', or use --search random"
    )
