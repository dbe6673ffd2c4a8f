"""The table of faults in `docs/reliability.md` names every fault of the plan, and tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
FAULTS = {
    "SIGKILL": {"worker", "trial actor", "Train controller", "driver", "raylet", "head", "host", "tracking server"},
    "SIGSTOP": {"worker", "trial actor", "Train controller", "driver", "raylet", "head", "tracking server"},
    "SIGTERM, SIGINT": {"start", "training", "evaluation"},
    "disk full": {"checkpoint", "samples", "events", "report"},
    "read-only": {"storage"},
    "NaN": {"loss"},
    "torn file": {"each file", "checkpoint", "caches"},
    "clock set back": {"host"},
    "two campaigns": {"one storage"},
    "two drivers": {"one campaign"},
    "a second Ray": {"machine"},
    "network cut": {"30 s", "for good"},
    "50 resumes": {"in a row"},
    "new code": {"between kill and resume"},
}


def rows() -> list[list[str]]:
    """Return the cells of the matrix, row by row."""
    text = PAGE.read_text(encoding="utf-8").partition("## The matrix of faults")[2]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1]}")
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    fault, _, expectation, tests = row
    assert fault in FAULTS
    assert expectation
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert named or tests == "-"
    for file, function in named:
        assert function in functions(file), f"{file} has no {function}"


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_rows(fault: str) -> None:
    places = "; ".join(row[1] for row in rows() if row[0] == fault)
    assert {place for place in FAULTS[fault] if place not in places} == set()
