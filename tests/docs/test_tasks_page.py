"""The page on tasks: its mapping and its task in one file are what they say, on rows of their kind."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge_common.errors import UserError
from bridge_common.files import read_json, read_jsonl
from cluster.cli.app import app
from tests.support.documents import blocks
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders, make_pair
from tests.support.plugin_modules import importable

PAGE = "docs/tasks.md"
(TASK,) = blocks(PAGE)
(MAPPING,) = blocks(PAGE, "toml")
(COMMAND,) = blocks(PAGE, "bash")
RIDDLES = [
    {"riddle": f"What has {n} legs and stands still?", "answer": "a table", "level": ("easy", "hard")[n % 2]}
    for n in range(140)
]
QUIZ = [
    {"question": f"What is {n} + 1?", "options": [str(n), str(n + 1), "7"], "correct": 1, "topic": "sums"}
    for n in range(10, 150)
]


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir()
    for split, some in (("train", rows), ("test", rows[:6])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder from which commands are started, with the page's file in it."""
    with importable(tmp_path):
        (tmp_path / "riddles.py").write_text(TASK)
        write(tmp_path / "riddles", RIDDLES)
        monkeypatch.chdir(tmp_path)
        yield tmp_path


def run(line: str) -> str:
    done = CliRunner().invoke(app, shlex.split(line)[3:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_plans_the_task_of_one_file(folder: Path) -> None:
    assert "frozen in" in run(COMMAND)


def test_a_faulty_row_is_one_line(folder: Path) -> None:
    path = folder / "riddles" / "test.jsonl"
    path.write_text(path.read_text() + json.dumps({"riddle": "Why?", "answer": " ", "level": "easy"}) + "\n")
    with pytest.raises(UserError, match=r"test\.jsonl, line 7: answer is ' '; text in quotes is expected"):
        run(COMMAND)


def test_a_job_trains_on_it_and_reports_its_groups(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pair: PairFolders = make_pair(tmp_path_factory.mktemp("pair"))
    sizes = {"train_examples": None, "test_examples": None, "validation_examples": 2, "num_fewshot": 1, "steps": 2}
    spec = small_spec(pair, task="riddles:Riddles", task_data=str(folder / "riddles"), eval_every=2, **sizes)
    run_job(spec, folder / "trial")
    samples, metrics = read_jsonl(folder / "trial" / "samples.jsonl"), read_json(folder / "trial" / "metrics.json")
    assert [row["gold"] for row in samples] == ["a table"] * 6
    assert {"accuracy/bridged/easy", "accuracy/bridged/hard"} <= metrics.keys()
    assert metrics["n/easy"] == 3


def test_the_mapping_plans_on_rows_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trivia.toml").write_text(MAPPING)
    write(tmp_path / "quiz", [row | {"verified": "yes"} for row in QUIZ])
    assert "frozen in" in run("python -m cluster plan phase1 --task trivia.toml --data quiz")
