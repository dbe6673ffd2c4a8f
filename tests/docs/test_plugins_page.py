"""The page on plug-ins: its blocks make up one module, and its commands do what it says."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.cli.app import app
from tests.support.documents import blocks
from tests.support.plugin_modules import EXAMPLE, importable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder from which commands are started, with the page's module in it."""
    with importable(tmp_path):
        (tmp_path / "my_plugin.py").write_text(EXAMPLE)
        monkeypatch.chdir(tmp_path)
        yield tmp_path


def run(line: str) -> str:
    arguments = shlex.split(line)
    assert arguments[:3] == ["python", "-m", "cluster"]
    done = CliRunner().invoke(app, arguments[3:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


COMMANDS = [line for block in blocks("docs/plugins.md", "bash") for line in block.splitlines()]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs(folder: Path, line: str) -> None:
    shown = run(line)
    if " plan " in line:
        assert "frozen in" in shown
    else:
        assert any(name in shown for name in ("sums", "low_rank", "extra.rank"))


def test_the_page_shows_each_of_the_three() -> None:
    assert len(COMMANDS) >= 7
    for part in (
        "class Sums(QuestionTask)",
        "class LowRank(Resampler)",
        "register_toggle(\n    Toggle(",
        "TASKS.register",
        "BRIDGES.register",
    ):
        assert part in EXAMPLE


def test_what_it_says_about_python(folder: Path) -> None:
    from ray_bridge import fingerprint, tiny

    said = tiny(plugins=("my_plugin",), task="sums", bridge="low_rank", extra={"rank": 16})
    assert said.extra == {"largest": 20, "rank": 16}
    assert fingerprint(said) != fingerprint(said.replace(extra={"rank": 8}))
