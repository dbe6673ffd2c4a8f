"""A spreadsheet shows what a table's CSV holds, runs none of it, and pandas reads it back."""

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from tune_spaces.records.csv_text import csv_text, without_apostrophe
from tune_spaces.records.results_table import export

FORMULAS = ("=1+1", "+1+1", "-cmd", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", '=HYPERLINK("http://x","y")')
HARMLESS = ("-5", "+3.25e1", "a=b", "'tis", "", "a\r=1+1")


def cells(text: str) -> list[str]:
    """Return the first column as a reader gets it, apostrophes included."""
    return list(pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)["text"])


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_becomes_text(formula: str) -> None:
    (cell,) = cells(csv_text(pd.DataFrame({"text": [formula], "n": [-1.5]})))
    assert cell == f"'{formula}"
    assert without_apostrophe(cell) == formula


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_in_their_cell(text: str) -> None:
    assert cells(csv_text(pd.DataFrame({"text": [text, "="], "n": [-1.5, 2]}))) == [text, "'="]


def test_numbers_stay_numbers_and_names_of_columns_are_safe() -> None:
    table = pd.DataFrame({"=name": ["=1", None], "x": [-0.5, float("nan")], "n": pd.array([-3, None], "Int64")})
    table["on"] = [True, False]
    text = csv_text(table)
    assert text.splitlines() == ["'=name,x,n,on", "'=1,-0.5,-3,True", ",,,False"]
    back = pd.read_csv(StringIO(text)).rename(columns=without_apostrophe).map(without_apostrophe)
    assert back["=name"].tolist()[0] == "=1"
    assert back["x"].tolist()[0] == -0.5
    assert back["n"].tolist()[0] == -3
    assert table.columns[0] == "=name", "the table itself is as it was"


def test_the_table_of_results_is_written_so(tmp_path: Path) -> None:
    path = export(pd.DataFrame({"error": ["=cmd|' /C calc'!A0"]}), tmp_path / "r.csv", "csv")
    assert path.read_text(encoding="utf-8") == "error\n'=cmd|' /C calc'!A0\n"
