"""The table of faults in `docs/reliability.md` names every fault of the plan, and tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
RAY = {"raylet", "head of a local Ray", "raylet of a joined Ray", "head of a joined Ray"}
FAULTS = {
    "SIGKILL": {"worker", "trial actor", "Train controller", "driver", *RAY, "host", "tracking server"},
    "SIGSTOP": {"worker", "resident worker", "trial actor", "Train controller", "driver", *RAY, "tracking server"},
    "busy, hangs": {"head of a joined Ray"},
    "away": {"bucket"},
    "millions of points": {"outage"},
    "path": {"storage"},
    "no locks, no hard links": {"file system"},
    "SIGUSR2, from Slurm": {"training"},
    "away, 10 s and more": {"PostgreSQL"},
    "SIGTERM, SIGINT": {"start", "training", "evaluation"},
    "disk full": {"checkpoint", "samples", "events", "report", "spool"},
    "read-only": {"storage"},
    "NaN": {"loss"},
    "torn file": {"each file", "checkpoint", "caches"},
    "clock set back": {"host"},
    "two campaigns": {"one storage"},
    "two drivers": {"one campaign"},
    "a second Ray": {"machine"},
    "network cut": {"30 s", "for good", "head of a joined Ray"},
    "50 resumes": {"in a row"},
    "new code": {"between kill and resume"},
}


def rows() -> list[list[str]]:
    """Return the cells of the matrix, row by row."""
    text = PAGE.read_text(encoding="utf-8").partition("## The matrix of faults")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def names_tests(cell: str) -> bool:
    """Check that a cell names tests, and that they exist."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", cell)
    for file, function in named:
        assert function in functions(file), f"{file} has no {function}"
    return bool(named)


def same_numbers() -> list[str]:
    """Return the rows of the table of what gives the same numbers."""
    text = PAGE.read_text(encoding="utf-8").partition("## The same numbers")[2]
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1]}")
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    fault, _, expectation, seconds, tests = row
    assert fault in FAULTS
    assert expectation
    assert re.fullmatch(r"[\d., to<]*", seconds)
    assert names_tests(tests)


@pytest.mark.parametrize("row", same_numbers())
def test_what_gives_the_same_numbers_is_tested(row: str) -> None:
    assert names_tests(row)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_rows(fault: str) -> None:
    places = "; ".join(row[1] for row in rows() if row[0] == fault)
    assert {place for place in FAULTS[fault] if place not in places} == set()
