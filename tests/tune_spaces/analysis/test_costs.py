"""Costs beside accuracy: means over runs, and which condition no other one beats in both."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.made_samples import bits, write_samples
from tune_spaces.analysis.analyse import analyse
from tune_spaces.analysis.scored_trials import read_trials
from tune_spaces.appendix.cost_table import cost_table, scaled, tokens

VERDICTS = {"bridged": bits("1110"), "target_alone": bits("1000"), "text_bridge": bits("1110")}


def table(tmp_path: Path, *rows: dict[str, Any]) -> pd.DataFrame:
    path = str(write_samples(tmp_path / "samples.jsonl", VERDICTS))
    return pd.DataFrame([{"variant": "full", "seed": i, "samples": path, **row} for i, row in enumerate(rows)])


def rows_of(frame: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["variant"], row["condition"]): row for row in analyse(read_trials(frame, [])).costs}


COSTS = {
    "cost/flops/bridged": 3e9,
    "cost/prefill_tokens/bridged": 40.0,
    "cost/flops/target_alone": 2e9,
    "cost/flops/text_bridge": 9e9,
    "cost/seconds/bridged": 0.5,
    "cost/bridge_parameters": 1e6,
    "cost/bridge_bytes": 4e6,
}


def test_a_condition_is_beaten_by_one_that_is_as_accurate_with_fewer_flops(tmp_path: Path) -> None:
    rows = rows_of(table(tmp_path, COSTS))
    assert {condition: row["efficient"] for (_, condition), row in rows.items()} == {
        "bridged": True,
        "target_alone": True,
        "text_bridge": False,
    }
    assert rows["full", "bridged"]["accuracy"] == 0.75
    assert rows["full", "bridged"]["bridge_bytes"] == 4e6


def test_only_rows_of_one_source_target_and_task_beat_one_another(tmp_path: Path) -> None:
    """A target that solves everything by itself for little makes no translator of another target inefficient."""
    frame = table(tmp_path, COSTS, COSTS).assign(variant=["full", "swap"], seed=0, target=["large", "small"])
    solved = {"bridged": bits("1111"), "target_alone": bits("1111"), "text_bridge": bits("1111")}
    frame.loc[1, "samples"] = str(write_samples(tmp_path / "swap.jsonl", solved))
    frame.loc[1, "cost/flops/target_alone"] = 1e9
    rows = rows_of(frame)
    assert [rows["full", name]["efficient"] for name in VERDICTS] == [True, True, False]
    assert [rows["swap", name]["efficient"] for name in VERDICTS] == [False, True, False]
    alike = rows_of(frame.assign(target="large"))
    assert [alike["full", name]["efficient"] for name in VERDICTS] == [False] * 3


def test_costs_are_means_over_the_runs_that_have_them(tmp_path: Path) -> None:
    rows = rows_of(table(tmp_path, COSTS, {**COSTS, "cost/flops/bridged": 5e9, "cost/seconds/bridged": None}))
    assert (rows["full", "bridged"]["flops"], rows["full", "bridged"]["seconds"]) == (4e9, 0.5)


def test_runs_without_costs_have_none(tmp_path: Path) -> None:
    assert rows_of(table(tmp_path, {})) == {}


def test_costs_of_which_some_are_not_known_are_shown_as_such(tmp_path: Path) -> None:
    rows = list(rows_of(table(tmp_path, {"cost/prefill_tokens/bridged": 40.0})).values())
    assert [row["condition"] for row in rows] == ["bridged"]
    assert rows[0]["flops"] is None
    line = cost_table(rows).splitlines()[2]
    assert line.startswith("| full | bridged | 75.0 |  | not known | not known | not known | not known |")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999.4, "999 B"), (999.6, "1 kB"), (1234, "1.23 kB"), (3.2e13, "32 TB"), (2.5e20, "250 EB")],
)
def test_numbers_have_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert scaled(value, "B") == text


def test_tokens_are_written_whole_where_they_are() -> None:
    assert (tokens(1450.0), tokens(29.53), tokens(None)) == ("1,450", "29.5", "not known")
