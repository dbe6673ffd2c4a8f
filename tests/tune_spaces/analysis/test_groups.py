"""Accuracy by groups of items: which fields are groups, whose items they divide, what small ones do not tell."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.made_samples import bits, write_samples
from tune_spaces.analysis.analyse import analyse
from tune_spaces.analysis.estimates import Cells
from tune_spaces.analysis.groups import group_rows
from tune_spaces.analysis.samples import load_samples
from tune_spaces.analysis.scored_trials import Trials, read_trials
from tune_spaces.appendix.group_table import HEADER
from tune_spaces.appendix.markdown import markdown

LEVELS = ["Level 10", "Level 2", "Level 2", "Level 10", "Level 2", "Level 10"]


def grouped(path: Path, bridged: str, alone: str = "100100", first: int = 0, **fields: list[Any]) -> Path:
    write_samples(path, {"bridged": bits(bridged), "target_alone": bits(alone)}, first=first)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for name, values in fields.items():
        for row, value in zip(rows, values, strict=True):
            row.update({} if value is None else {name: value})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_groups_are_texts_that_divide_the_items(tmp_path: Path) -> None:
    fields: dict[str, list[Any]] = {
        "level": LEVELS,
        "model": ["one"] * 6,
        "note": [f"text {i}" for i in range(6)],
        "steps": [1, 1, 1, 2, 2, 2],
        "type": ["a", None, "a", "b", "b", "b"],
        "cluster": ["x", "x", "y", "y", "z", "z"],
        "text_bridge_4_output": ["yes", "yes", "no", "no", "no", "no"],
    }
    samples = load_samples(grouped(tmp_path / "s.jsonl", "111000", **fields))
    assert samples.groups == {"level": tuple(LEVELS)}
    assert samples.take([3, 1]).groups == {"level": ("Level 10", "Level 2")}


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    rows = [
        {"variant": "full", "seed": seed, "samples": str(grouped(tmp_path / f"f{seed}.jsonl", text, level=LEVELS))}
        for seed, text in enumerate(("111000", "111100"))
    ]
    own = grouped(tmp_path / "math.jsonl", "110000", first=50, subject=["Algebra"] * 5 + ["Geometry"])
    rows.append({"variant": "math", "seed": 0, "samples": str(own)})
    return read_trials(pd.DataFrame(rows), [])


def test_each_variant_is_measured_by_group_on_its_own_items(trials: Trials) -> None:
    assert [trial.variant for trial in trials.apart] == ["math"]
    rows = {(row["variant"], row["group"], row["value"]): row for row in group_rows(trials)}
    assert list(rows) == [
        ("full", "level", "Level 2"), ("full", "level", "Level 10"),
        ("math", "subject", "Algebra"), ("math", "subject", "Geometry"),
    ]  # fmt: skip
    row = rows["full", "level", "Level 10"]
    assert (row["runs"], row["n"]) == (2, 3)
    cells = {"bridged": np.array([[1, 0, 0], [1, 1, 0]]), "target_alone": np.array([[1, 1, 0], [1, 1, 0]])}
    joint = Cells.of(cells, None, {name: name for name in cells})
    assert (row["accuracy"], row["low"], row["high"]) == (0.5, *joint.accuracy("bridged"))
    gain = joint.contrast({"bridged": 1.0, "target_alone": -1.0})
    assert (row["gain"], row["gain_low"], row["gain_high"]) == (pytest.approx(gain.estimate), gain.low, gain.high)


def test_a_group_of_one_item_has_no_interval(trials: Trials) -> None:
    row = group_rows(trials)[-1]
    assert (row["value"], row["n"], row["accuracy"], row["gain"]) == ("Geometry", 1, 0.0, 0.0)
    assert (row["low"], row["high"], row["gain_low"], row["gain_high"]) == (None, None, None, None)


def test_a_group_of_one_cluster_has_no_interval(tmp_path: Path) -> None:
    clusters = ["x", "y", "y", "x", "y", "x"]
    path = grouped(tmp_path / "s.jsonl", "111000", level=LEVELS, cluster=clusters)
    trials = read_trials(pd.DataFrame([{"variant": "full", "seed": 0, "samples": str(path)}]), [])
    assert [row["low"] for row in group_rows(trials)] == [None, None]


def test_without_the_target_alone_there_is_no_gain(tmp_path: Path) -> None:
    path = grouped(tmp_path / "s.jsonl", "111000", level=LEVELS)
    kept = [
        {name: value for name, value in json.loads(line).items() if not name.startswith("target_alone")}
        for line in path.read_text().splitlines()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    trials = read_trials(pd.DataFrame([{"variant": "full", "seed": 0, "samples": str(path)}]), [])
    assert [(row["alone"], row["gain"]) for row in group_rows(trials)] == [(None, None)] * 2


def test_the_appendix_has_the_table(trials: Trials) -> None:
    appendix = analyse(trials)
    assert appendix.as_json()["groups"] == appendix.groups == group_rows(trials)
    section = markdown(appendix, title="t", quoted=0, pictures=[]).split("## Accuracy by group")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[0] == "| " + " | ".join(HEADER) + " |"
    assert lines[2].startswith("| full | level | Level 2 | 2 | 3 | 66.7 | [")
    assert lines[-1] == "| math | subject | Geometry | 1 | 1 | 0.0 |  | 0.0 | +0.0 |  |"
