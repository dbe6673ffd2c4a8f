"""From the table of trials to answers on one set of items: what is compared, what is apart, what is missing."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bridge_common.errors import UserError
from tests.support.made_samples import bits, write_samples
from tune_spaces.analysis.samples import load_samples
from tune_spaces.analysis.scored_trials import Trials, matrix, read_trials, trials_of_samples

TOGGLES = ("kl", "decode")


class Table:
    """A table of trials with their sample files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []

    def add(
        self, variant: str, answers: str | None = "1100", seed: Any = 0, on: str = "kl decode", **more: Any
    ) -> None:
        name, first = f"{len(self.rows)}.jsonl", more.pop("first", 0)
        if answers is not None:
            write_samples(self.folder / name, {"bridged": bits(answers)}, first=first)
        toggles = {toggle: toggle in on.split() for toggle in TOGGLES}
        path = None if answers is None else name
        self.rows.append({"variant": variant, "seed": seed, **toggles, "samples": path, **more})

    def read(self, **options: Any) -> Trials:
        return read_trials(pd.DataFrame(self.rows), TOGGLES, root=self.folder, **options)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_a_row_becomes_a_trial(table: Table) -> None:
    table.add("full", "1101", seed=2.0, on="kl", task="synthetic", soft_tokens=64, kv_saved=0.5, other=3)
    (trial,) = table.read().compared
    assert (trial.variant, trial.seed, trial.on, trial.name) == ("full", 2, {"kl"}, "full (seed 2)")
    assert trial.context == {"task": "synthetic", "soft_tokens": 64}
    assert (trial.soft_tokens, trial.kv_saved) == (64, 0.5)
    assert trial.samples.conditions["bridged"].correct.tolist() == bits("1101")
    (trial,) = table.read(context=("other", "absent")).compared
    assert trial.context == {"other": 3}


def test_what_a_table_does_not_say_is_none(table: Table) -> None:
    table.add("full", seed=None, soft_tokens=None, kv_saved=float("nan"), task=float("nan"))
    (trial,) = table.read().compared
    assert (trial.seed, trial.soft_tokens, trial.kv_saved) == (0, None, None)
    assert trial.context == {"soft_tokens": None, "task": None}


def test_a_setting_may_be_a_list(table: Table) -> None:
    table.add("full", layers=[2, 4])
    assert table.read(context=("layers",)).compared[0].context == {"layers": [2, 4]}


def test_a_column_k_counts_before_soft_tokens(table: Table) -> None:
    table.add("full", K=8, soft_tokens=64)
    assert table.read().compared[0].soft_tokens == 8


@pytest.mark.parametrize(
    ("value", "on"),
    [
        *((value, True) for value in (True, "on", " ON ", 1, 1.0, "true")),
        *((value, False) for value in (False, "off", 0, 0.0, "False")),
    ],
)
def test_positions_of_toggles_may_be_spelt_in_several_ways(table: Table, value: Any, on: bool) -> None:
    table.add("full")
    table.rows[0]["kl"] = value
    assert ("kl" in table.read().compared[0].on) is on


def test_what_is_wrong_with_a_table_is_said(table: Table) -> None:
    table.add("full", seed=3)
    table.rows[0]["kl"] = "maybe"
    with pytest.raises(UserError, match=r"full \(seed 3\): toggle kl is 'maybe'; it must be on or off"):
        table.read()
    with pytest.raises(UserError, match="has no column seed, other, kl, decode: rebuild it"):
        read_trials(pd.DataFrame([{"variant": "full"}]), TOGGLES, samples_column="other")
    table.rows = [{**table.rows[0], "samples": ""}]
    with pytest.raises(UserError, match="no trial has samples yet"):
        table.read()


def test_trials_without_samples_are_named(table: Table) -> None:
    table.add("full")
    table.add("B", None, seed=1)
    table.add("C", None, seed=None)
    table.rows[-1]["samples"] = float("nan")
    assert table.read().without_samples == ["B (seed 1)", "C (seed None)"]


def test_paths_are_relative_to_the_root_or_the_working_directory(
    table: Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table.add("full")
    monkeypatch.chdir(tmp_path)
    assert read_trials(pd.DataFrame(table.rows), TOGGLES).compared[0].samples.n == 4


def test_the_reference_comes_first_and_seeds_are_in_order(table: Table) -> None:
    table.add("B")
    table.add("full", "1010", seed=1)
    table.add("full", "0101", seed=0)
    trials = table.read()
    assert list(trials.variants()) == ["full", "B"]
    assert [trial.seed for trial in trials.variants()["full"]] == [0, 1]
    assert matrix(trials.variants()["full"]).tolist() == [bits("0101"), bits("1010")]
    assert table.read(reference="B").reference == "B"
    assert table.read(reference="absent").reference == "B", "the first one with samples"


def test_items_are_put_into_the_order_of_the_reference(table: Table) -> None:
    table.add("B", "10")
    table.add("full", "01")
    path = table.folder / "0.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    trials = table.read()
    assert {trial.variant: trial.samples.keys["id"] for trial in trials.compared} == {
        "B": ("q0", "q1"),
        "full": ("q0", "q1"),
    }
    assert trials.variants()["B"][0].samples.conditions["bridged"].correct.tolist() == bits("10")


def name_clusters(path: Path, clusters: str) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"cluster": c}) + "\n" for row, c in zip(rows, clusters, strict=True)))


def test_clusters_are_known_if_any_trial_names_them(table: Table) -> None:
    for variant in ("full", "A", "B"):
        table.add(variant, "1010")
    assert table.read().clusters() is None
    name_clusters(table.folder / "1.jsonl", "xxyz")
    for reference in ("full", "A"):
        clusters = table.read(reference=reference).clusters()
        assert clusters is not None
        assert clusters.tolist() == [0, 0, 2, 3]
    name_clusters(table.folder / "2.jsonl", "aabc")
    assert table.read().clusters() is not None, "the same clusters by other names"
    name_clusters(table.folder / "2.jsonl", "abbc")
    with pytest.raises(UserError, match=r"different clusters: correct the field cluster in .*2\.jsonl or .*1\.jsonl"):
        table.read().clusters()


def test_the_set_of_items_that_most_trials_share_is_compared(table: Table) -> None:
    table.add("full", "1111", seed=5)  # on more items
    table.add("full", "10")
    table.add("B", "01")
    table.add("C", "1111", first=9)
    trials = table.read()
    assert [trial.name for trial in trials.compared] == ["full (seed 0)", "B (seed 0)"]
    assert [trial.name for trial in trials.apart] == ["full (seed 5)", "C (seed 0)"]


def test_other_items_with_the_same_answers_are_other_items(table: Table) -> None:
    table.add("full", "10")
    table.add("B", "01")
    path = table.folder / "1.jsonl"
    path.write_text(path.read_text().replace('"id": "q', '"id": "other'))
    trials = table.read()
    assert [trial.name for trial in trials.apart] == ["B (seed 0)"]


def test_a_second_configuration_of_one_name_is_numbered(table: Table) -> None:
    table.add("full", task="a")
    table.add("full", "0011", task="b")
    table.add("full", "0001", seed=1, task="a")
    table.add("full", "0111", on="kl", task="a")
    trials = table.read()
    assert [(trial.variant, trial.seed) for trial in trials.compared] == [
        ("full", 0),
        ("full #2", 0),
        ("full", 1),
        ("full #3", 0),
    ]


def test_cells_hold_one_run_for_each_seed_in_the_context_of_the_reference(table: Table) -> None:
    table.add("full", "1100", task="a")
    table.add("full-again", "1111", task="a")  # the same configuration and seed: it counts once
    table.add("full", "0000", seed=1, task="a")
    table.add("B", "1000", on="kl", task="a")
    table.add("C", "0001", on="kl", task="b")
    cells = table.read().cells()
    assert {tuple(sorted(on)): answers.tolist() for on, answers in cells.items()} == {
        ("decode", "kl"): [bits("1100"), bits("0000")],
        ("kl",): [bits("1000")],
    }


def test_trials_by_soft_tokens_differ_in_k_and_seed_alone(table: Table) -> None:
    table.add("full", soft_tokens=64, task="a")
    table.add("k8", "1000", soft_tokens=8, task="a")
    table.add("k8", "0001", seed=1, soft_tokens=8, task="a")
    table.add("other-task", soft_tokens=8, task="b")
    table.add("off", soft_tokens=8, task="a", on="kl")
    table.add("none", soft_tokens=None, task="a")
    groups = table.read().by_soft_tokens()
    assert {k: [trial.name for trial in group] for k, group in groups.items()} == {
        8: ["k8 (seed 0)", "k8 (seed 1)"],
        64: ["full (seed 0)"],
    }
    assert list(groups) == [8, 64]


@pytest.mark.parametrize("setting", ["source", "source_revision", "target", "target_revision", "task"])
def test_accuracies_have_a_common_scale_only_with_the_same_models_and_task(tmp_path: Path, setting: str) -> None:
    path = str(write_samples(tmp_path / "samples.jsonl", {"bridged": bits("0110")}))
    rows = [
        {"variant": name, "seed": 0, "samples": path, setting: value, "K": 8}
        for name, value in zip("abc", "112", strict=True)
    ]
    trials = read_trials(pd.DataFrame(rows), (), context=[setting, "K"])
    assert trials.same_setting("a", "b")
    assert not trials.same_setting("a", "c")


def test_runs_of_which_only_names_are_known(tmp_path: Path) -> None:
    runs = {name: load_samples(write_samples(tmp_path / name, {"bridged": bits("10")})) for name in ("x", "y")}
    trials = trials_of_samples(runs)
    assert (trials.reference, trials.apart, trials.without_samples) == ("x", [], [])
    first = trials.compared[0]
    assert (first.variant, first.seed, first.on, first.context) == ("x", 0, frozenset(), {})
    assert (first.soft_tokens, first.kv_saved, first.samples) == (None, None, runs["x"])
    assert [trial.variant for trial in trials.compared] == ["x", "y"]
