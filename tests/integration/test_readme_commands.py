"""Every command of the README runs as it is written, in miniature, on one small campaign that is trained for all.

`tests/support/readme_commands.py` has what is added to each command or put in its place, and names the tests that run
the few others in full.
"""

import ast
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from cluster.cli.app import app
from tests.support.command_line import call_here
from tests.support.mlflow_store import copy_database
from tests.support.model_pairs import make_pair
from tests.support.readme_commands import PROGRAM, ROOT, ROWS, TRAINED, Row, shown

SHOWN = list(shown((ROOT / "README.md").read_text(), app.commands))
RUN_HERE = [text for text in SHOWN if text in ROWS and not ROWS[text].run_by]
PLACEHOLDERS = re.compile(r"[A-Z:.]+|http:.*|[\d,:]+|paper|python|-m")
EXPORT = "python -m cluster export RUN DIR --bundle"
TRAINING = "python -m cluster phase1 --preset tiny"  # what `make phase1` runs


def test_every_command_has_a_row_and_every_row_a_command() -> None:
    assert set(SHOWN) - set(ROWS) == set(), "a command of the README that no test runs: add a row"
    assert set(ROWS) - set(SHOWN) == set(), "a row for a command that the README no longer shows"


@pytest.mark.parametrize("text", [text for text in SHOWN if text in ROWS and ROWS[text].run_by])
def test_what_another_test_runs_is_run_there(text: str) -> None:
    """The test is there, and the command's words are in its file or in the helpers that it imports."""
    path, _, name = ROWS[text].run_by.partition("::")
    source = (ROOT / path).read_text()
    assert re.search(rf"^def {name}\(", source, flags=re.MULTILINE), ROWS[text].run_by
    modules = re.findall(r"from tests\.support\.(\w+) import", source)
    helpers = [ROOT / "tests" / "support" / f"{module}.py" for module in modules]
    strings = [
        node.value
        for file in (ROOT / path, *helpers)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    words = [word.split("=")[0] for word in shlex.split(text) if not PLACEHOLDERS.fullmatch(word)]
    parts = {part for string in strings for part in (string, *string.split("="), *string.split())}
    assert [word for word in words if word not in parts] == []


class Place:
    """A folder with a small trained campaign, from which commands are started, each once."""

    def __init__(self, folder: Path, ray: Any) -> None:
        self.folder, self.ray = folder, ray
        self._printed: dict[str, str] = {}

    def values(self, text: str) -> dict[str, Any]:
        """Return what stands for the words in braces of a text; what another command has to make, is made first."""
        trials = {path.name.rpartition("-")[0]: path for path in (self.folder / "runs/phase1-tiny/trials").glob("*-*")}
        known = {"place": self.folder, "root": ROOT, "out": self.folder / "out"}
        known |= {"new": f"planned-{len(self._printed)}"}
        known |= {"trial": trials.get("full"), "other": trials.get("B")}
        if "{bundle}" in text:
            self.printed(EXPORT, ROWS[EXPORT])
            known["bundle"] = self.folder / "out" / "bundle"
        if "{pair}" in text:
            known["pair"] = self._pair()
        return known

    def _pair(self) -> Path:
        """Make two checkpoints with chat templates."""
        folder = self.folder / "pair"
        if not folder.exists():
            make_pair(folder, target_kv_heads=2)
            for side in ("source", "target"):
                template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
                (folder / side / "chat_template.jinja").write_text(template)
        return folder

    def words(self, text: str, row: Row) -> list[str]:
        """Return the words of a command of the README with its row's changes."""
        read = [part for word in shlex.split(text) for part in shlex.split(row.instead.get(word, shlex.quote(word)))]
        changed = [*(shlex.split(PROGRAM + row.before) if row.before else ()), *read, *shlex.split(row.add)]
        return [word.format(**self.values(word)) if "{" in word else word for word in changed]

    def printed(self, text: str, row: Row) -> str:
        """Run a command of the README, unless it has run before, and return what it prints."""
        if text not in self._printed:
            words = self.words(text, row)
            if words[:3] == PROGRAM.split():
                done = call_here(*words[3:], folder=self.folder, RAY_ADDRESS=self.ray.address, COLUMNS="80")
            else:
                done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode or 0) == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
            self._printed[text] = done.stdout
        return self._printed[text]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path, ray_head: Any) -> Place:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "runs").mkdir()
    copy_database(mlflow_database, folder / "runs")
    (folder / "old.log").write_text("of an earlier run\n")
    files.write_jsonl(folder / "outputs.jsonl", [{"gold": "18", "output": f"#### {number}"} for number in (18, 19)])
    made = Place(folder, ray_head)
    made.printed(TRAINING, TRAINED)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("text", RUN_HERE)
def test_it_runs_as_written(text: str, place: Place) -> None:
    assert ROWS[text].prints in place.printed(text, ROWS[text])
