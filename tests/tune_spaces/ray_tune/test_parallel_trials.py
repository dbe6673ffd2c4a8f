"""How many trials the searcher hands out at once, which, and on which nodes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge import tiny, tiny_run
from tune_spaces.design import phases
from tune_spaces.design.parallel import AUTO, Parallel, parse_parallel
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import make_plan
from tune_spaces.design.variants import Variant
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.searcher import VariantSearcher
from tune_spaces.records.campaign_folder import CampaignFolder

FACTORIAL = phases.ablate(tiny(), ["factorial"], ["kl", "prompt"])


class Driver:
    """Asks a searcher for trials and tells it how they ended."""

    def __init__(
        self,
        folder: Path,
        phase: Phase,
        parallel: Parallel = AUTO,
        slots: Callable[[], int] | None = None,
        seeds: Sequence[int] = (0,),
        left_to: Callable[[int, float], str | None] | None = None,
        alive: Callable[[str], bool] = lambda node: True,
    ) -> None:
        planned = make_plan(phase, tiny(), seeds=seeds)
        self.policy = Policy(first=planned.first, branches=planned.branches)
        self.searcher = VariantSearcher(
            self.policy,
            planned.trials,
            CampaignFolder(folder / "c"),  # in a storage of its own
            tiny_run(),
            parallel=parallel,
            slots=slots,
            alive=alive,
            left_to=left_to,
        )
        self.number = 0
        self.configs: dict[str, dict[str, Any]] = {}
        self.ids: dict[str, str] = {}

    def begin(self) -> list[str]:
        """Return the variants that start now, with their seed unless it is 0."""
        started = []
        while isinstance(config := self.searcher.suggest(f"t{self.number}"), dict):
            label = config["variant"] + (f"/{config['seed']}" if config["seed"] else "")
            self.configs[label], self.ids[label] = config, f"t{self.number}"
            started.append(label)
            self.number += 1
        return started

    def end(self, label: str, accuracy: float | None = 0.6) -> None:
        """End a trial, with an error if it has no accuracy."""
        result = {"accuracy/bridged": accuracy, "n": 1000, "final": True, "node_id": f"node of {label}"}
        self.searcher.on_trial_complete(self.ids[label], result=result, error=accuracy is None)

    @property
    def ended(self) -> bool:
        return self.searcher.suggest("last") == "FINISHED"


def test_as_many_trials_start_as_the_cluster_has_slots(tmp_path: Path) -> None:
    slots = 3
    driver = Driver(tmp_path, FACTORIAL, slots=lambda: slots)
    assert driver.begin() == ["kl+prompt", "kl", "prompt"]
    assert driver.begin() == []
    slots = 2  # a node has gone
    driver.end("kl")
    assert driver.begin() == []
    driver.end("kl+prompt")
    assert driver.begin() == ["none"]
    assert not driver.ended
    for label in ("prompt", "none"):
        driver.end(label)
    assert driver.ended


def test_one_trial_runs_although_no_place_is_free(tmp_path: Path) -> None:
    """Tune would wait for ten minutes and hear no request to stop; the job itself waits for its place."""
    assert len(Driver(tmp_path, FACTORIAL, slots=lambda: 0).begin()) == 1


def test_a_number_is_kept_whatever_the_cluster_has(tmp_path: Path) -> None:
    assert len(Driver(tmp_path / "a", FACTORIAL, 3, slots=lambda: 1).begin()) == 3
    assert len(Driver(tmp_path / "b", FACTORIAL, 1, slots=lambda: 8).begin()) == 1


def test_what_the_gate_holds_back_waits_and_then_runs_one_by_one_on_the_first_node(tmp_path: Path) -> None:
    driver = Driver(tmp_path, phases.phase1(tiny()), slots=lambda: 8, seeds=(0, 1))
    assert driver.begin() == ["full", "full/1"]
    assert [config["prefer_node"] for config in driver.configs.values()] == [None, None]
    driver.end("full/1", 0.5)
    assert driver.begin() == []
    driver.end("full", 0.5)
    started: list[str] = []
    while new := driver.begin():
        assert len(new) == 1
        assert driver.configs[new[0]]["prefer_node"] == "node of full"
        driver.end(new[0])
        started += new
    assert started == ["A/2", "A/3", "B", "B/1", "C", "C/1"]
    assert driver.ended


def test_a_number_spreads_what_follows_the_gate(tmp_path: Path) -> None:
    driver = Driver(tmp_path, phases.phase1(tiny()), 3)
    assert driver.begin() == ["full"]
    driver.end("full", 0.5)
    assert driver.begin() == ["A/1", "B", "C"]
    assert driver.configs["B"]["prefer_node"] is None


def test_one_at_a_time_keeps_to_the_first_node(tmp_path: Path) -> None:
    driver = Driver(tmp_path, FACTORIAL, 1)
    (first,) = driver.begin()
    driver.end(first)
    (second,) = driver.begin()
    assert driver.configs[second]["prefer_node"] == f"node of {first}"


def test_the_first_node_is_preferred_only_while_it_is_alive(tmp_path: Path) -> None:
    dead: set[str] = set()
    driver = Driver(tmp_path, FACTORIAL, 1, alive=lambda node: node not in dead)
    driver.begin()
    driver.end("kl+prompt")
    assert driver.begin() == ["kl"]
    assert driver.configs["kl"]["prefer_node"] == "node of kl+prompt"
    dead.add("node of kl+prompt")
    driver.end("kl")
    assert driver.begin() == ["prompt"]
    assert driver.configs["prompt"]["prefer_node"] is None


def test_after_a_failure_of_a_trial_that_the_gate_needs_nothing_starts_and_the_rest_ends(tmp_path: Path) -> None:
    driver = Driver(tmp_path, phases.phase1(tiny()), slots=lambda: 2, seeds=(0, 1, 2))
    driver.begin()
    driver.end("full", None)
    assert driver.begin() == []
    assert not driver.ended, "full/1 still runs"
    driver.end("full/1", 0.7)
    assert driver.ended
    assert "full/2" not in driver.configs


def test_a_trial_that_measures_the_same_waits_for_the_one_that_runs(tmp_path: Path) -> None:
    """Two variants of one configuration: the second takes the first one's result, and runs itself if that failed."""
    twins = Phase(name="twins", goal="g", first=tuple(Variant(name=name) for name in ("one", "two")))
    driver = Driver(tmp_path, twins, 4)
    assert driver.begin() == ["one"]
    driver.end("one", None)
    assert driver.begin() == ["two"]
    again = Driver(tmp_path / "again", twins, 4)
    assert again.begin() == ["one"]
    folder = again.searcher.campaign.trial(again.configs["one"]["name"])
    folder.write_result(
        {"fingerprint": again.configs["one"]["fingerprint"], "metrics": {"accuracy/bridged": 0.6, "n": 10}}
    )
    again.end("one")
    assert again.begin() == []
    assert again.ended
    assert {outcome.accuracy for outcome in again.policy.outcomes.values()} == {0.6}


@pytest.mark.parametrize("parallel", [AUTO, 2])
def test_a_place_is_left_to_another_campaign_also_by_one_that_runs_nothing(tmp_path: Path, parallel: Parallel) -> None:
    left_to: str | None = "another"
    driver = Driver(tmp_path, FACTORIAL, parallel, slots=lambda: 2, left_to=lambda started, since: left_to)
    assert driver.begin() == []
    assert (driver.searcher.waits, driver.searcher.left_to) == (True, "another")
    assert not driver.ended
    left_to = None
    assert driver.begin() == ["kl+prompt", "kl"]
    assert driver.searcher.left_to is None


def test_what_it_waits_for_is_a_place_and_not_its_own_limit(tmp_path: Path) -> None:
    full = Driver(tmp_path / "full", FACTORIAL, slots=lambda: 1)
    limited = Driver(tmp_path / "limited", FACTORIAL, 1, slots=lambda: 8)
    full.begin(), limited.begin()
    assert (full.searcher.waits, limited.searcher.waits) == (True, False)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "", "10001", "1" + 20 * "0"])
def test_other_values_are_refused(value: str) -> None:
    with pytest.raises(UserError, match="use auto, or a number"):
        parse_parallel(value)
    assert parse_parallel("3") == parse_parallel(3) == 3
    assert parse_parallel("auto") == AUTO


def test_every_field_that_varies_is_part_of_a_suggestion_and_of_the_space(tmp_path: Path) -> None:
    from tune_spaces.ray_tune.search_space import search_space

    driver = Driver(tmp_path, phases.phase3(tiny()), 20)
    space = search_space(trial.spec for trial in driver.searcher.trials.values())
    assert {"soft_tokens", "pooling", "task", "target", "kl_alignment"} <= space.keys()
    assert {4, 8, 16, 32, 64} == set(space["soft_tokens"].categories), "as many as the embedded pair is compressed to"
    assert not {"seed", "steps"} & space.keys()
    driver.begin()
    for config in driver.configs.values():
        assert all(config[name] in domain.categories for name, domain in space.items())


def test_a_range_that_is_searched_is_a_range_in_the_space() -> None:
    from tune_spaces.design.search import parse_axis
    from tune_spaces.ray_tune.search_space import search_space

    axes = [parse_axis(text) for text in ("learning_rate=log:1e-5:1e-3", "soft_tokens=int:4:8", "num_heads=2,4")]
    space = search_space([tiny(num_heads=2), tiny(num_heads=4)], axes)
    assert (space["learning_rate"].lower, space["learning_rate"].upper) == (1e-5, 1e-3)
    assert (space["soft_tokens"].lower, space["soft_tokens"].upper) == (4, 9), "Tune's end is not part of a range"
    assert {2, 4} <= set(space["num_heads"].categories)
