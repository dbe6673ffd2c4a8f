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
COMPARED = [
    *(("SIGKILL", place) for place in ("worker", "trial actor", "Train controller", "driver")),
    *(("SIGSTOP", place) for place in ("worker", "trial actor", "Train controller")),
    *(("SIGTERM, SIGINT", "start"), ("disk full", "checkpoint"), ("torn file", "checkpoint")),
]
_LONG = re.compile(r"pytest\.mark\.long\b")


def rows() -> list[list[str]]:
    """Return the cells of the matrix, row by row."""
    text = PAGE.read_text(encoding="utf-8").partition("## The matrix of faults")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


@cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def named_tests(cell: str) -> list[tuple[str, str]]:
    """Return the files and functions that a cell names."""
    return re.findall(r"`([\w/]+\.py)::(\w+)`", cell)


def names_tests(cell: str) -> bool:
    """Check that a cell names tests, and that they exist."""
    named = named_tests(cell)
    for file, function in named:
        assert function in functions(file), f"{file} has no {function}"
    return bool(named)


def compares_numbers(file: str, function: str) -> bool:
    """Return whether a test in `faults/` compares its campaign with one that nothing disturbs."""
    calls = [node.func for node in ast.walk(functions(file)[function]) if isinstance(node, ast.Call)]
    return file.startswith("faults/") and "assert_as_undisturbed" in {getattr(call, "id", "") for call in calls}


def is_long(file: str, function: str) -> bool:
    """Return whether `make test` leaves out all cases of a test."""
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    of_file = re.search(r"^pytestmark = .*mark\.long", text, re.MULTILINE)
    return bool(of_file) or any("mark.long" in ast.unparse(mark) for mark in _marks(file, function))


def _marks(file: str, function: str) -> list[ast.expr]:
    decorators = functions(file)[function].decorator_list
    return [mark for mark in decorators if not isinstance(mark, ast.Call)]  # not those of single cases


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


@pytest.mark.parametrize(("fault", "place"), COMPARED)
def test_faults_of_a_job_compare_every_number(fault: str, place: str) -> None:
    of_place = [row for row in rows() if row[0] == fault and row[1].startswith(place)]
    assert of_place
    for row in of_place:
        assert any(compares_numbers(*test) for test in named_tests(row[-1])), row


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1]}")
def test_a_row_says_which_tests_make_test_leaves_out(row: list[str]) -> None:
    left_out = [is_long(*test) for test in named_tests(row[-1])]
    if all(left_out):
        assert "*long*" in " ".join(row)
    elif any(left_out):
        assert re.search(r"\*long\* in part|\(\*long\*\)", " ".join(row))


def test_make_faults_runs_every_file_with_long_tests() -> None:
    asked = (ROOT / "Makefile").read_text().partition("\nfaults: ")[2].partition("\n\n")[0]
    files = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py") if _LONG.search(path.read_text())]
    assert len(files) > 10
    assert {str(file) for file in files if str(file.parent) != "tests/faults" and str(file) not in asked} == set()


@pytest.mark.parametrize("row", same_numbers())
def test_what_gives_the_same_numbers_is_tested(row: str) -> None:
    assert names_tests(row)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_rows(fault: str) -> None:
    places = "; ".join(row[1] for row in rows() if row[0] == fault)
    assert {place for place in FAULTS[fault] if place not in places} == set()
