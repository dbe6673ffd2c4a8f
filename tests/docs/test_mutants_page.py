"""The page on mutation tests names tests that there are: one that was renamed or dropped protects nothing any more."""

import re

import pytest

from tests.support.command_line import ROOT

PAGE = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]*test_\w+\.py)`(?:: ([^|`]+))? \|$", PAGE, re.MULTILINE)
FILES = sorted((ROOT / "tests").rglob("test_*.py"))


def in_words(function: str) -> str:
    return function.removeprefix("test_").replace("_", " ")


@pytest.mark.parametrize(("file", "sentences"), NAMED, ids=[" ".join(row) for row in NAMED])
def test_a_test_that_the_page_names_is_there(file: str, sentences: str) -> None:
    paths = [path for path in FILES if path.as_posix().endswith(f"/{file}")]
    assert paths, file
    there = {in_words(name) for path in paths for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    named = [re.sub(r"\W+", " ", text.lower().replace("'", "")).strip() for text in sentences.split("; ") if text]
    assert not [name for name in named if name not in there]


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 30
