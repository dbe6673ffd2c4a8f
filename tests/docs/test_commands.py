"""Every command that README and docs name is a command of the program."""

import re

import click
import pytest

from cluster.cli.app import app
from tests.support.documents import ROOT

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_page_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for named in re.findall(r"python -m cluster ([a-z][\w-]*)", text):
        assert isinstance(app.get_command(click.Context(app), named), click.Command), named
    for named in re.findall(r"python -m benchmarks\.(\w+)", text):
        assert (ROOT / "benchmarks" / f"{named}.py").is_file(), named
    for named in re.findall(r"`make (\w+)", text):
        assert re.search(rf"^{named}( \w+)*:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), named


def test_the_first_screen_says_how_the_environment_is_activated() -> None:
    first_screen = (ROOT / "README.md").read_text().splitlines()[:20]
    assert any("`source .venv/bin/activate`" in line for line in first_screen)
