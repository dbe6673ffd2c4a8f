"""Faults of data, as the command line says them: one line, exit code 2, before Ray starts."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge_common.errors import UserError
from cluster.cli.app import app
from ray_bridge import tiny
from tune_spaces.design.phases import phase3
from tune_spaces.design.plan import make_plan

GOOD = json.dumps({"question": "How many?", "answer": "#### 7"})


def data(folder: Path, test: str, rows: int = 200) -> str:
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join([GOOD] * rows))
    (folder / "test.jsonl").write_text(test)
    return str(folder)


def refused(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, arguments)
    assert isinstance(outcome.exception, UserError), outcome.output
    return str(outcome.exception)


@pytest.mark.parametrize("command", [["plan", "phase1"], ["phase1"]])
@pytest.mark.parametrize(
    ("test", "rows", "message"),
    [
        (f'{GOOD}\n{{"question": null, "answer": "#### 7"}}', 200, "test.jsonl, line 2: question is null"),
        ('{"question": "?", "answer": "#### 18%"}', 200, "test.jsonl, line 1: the answer does not end with"),
        ("", 200, "test.jsonl holds no rows"),
        (GOOD, 100, "gsm8k has 100 training examples; num_fewshot + validation_examples take 128: lower them"),
    ],
)
def test_faults_are_said_before_ray_starts(
    tmp_path: Path, command: list[str], test: str, rows: int, message: str
) -> None:
    place = data(tmp_path / "data", test, rows)
    said = refused(*command, "--task", "gsm8k", "--data", place, "--storage", str(tmp_path / "runs"))
    assert message in said
    assert "\n" not in said
    assert not list((tmp_path / "runs").glob("*/tune"))


def test_data_without_a_task_are_refused(tmp_path: Path) -> None:
    place = data(tmp_path / "data", GOOD)
    for command in (["plan", "phase1"], ["phase1"]):
        assert "add --task gsm8k" in refused(*command, "--data", place, "--storage", str(tmp_path / "runs"))


def test_rows_that_are_left_out_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [json.dumps({"problem": "?", "solution": s}) for s in ["none", *[r"\boxed{1}"] * 299]]
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    arguments = ["plan", "phase1", "--task", "math", "--data", str(folder), "--storage", str(tmp_path / "runs")]
    arguments += ["--set", "max_new_tokens=64"]  # the embedded pair reads 512 positions
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert "train.jsonl: 1 of 300 rows have no usable answer, left out (line 1)" in outcome.output


def test_variants_with_another_task_read_that_task_s_data(tmp_path: Path) -> None:
    place = data(tmp_path / "data", GOOD)
    trials = make_plan(phase3(tiny()), tiny(task="gsm8k", task_data=place)).trials.values()
    folders = {trial.spec.task: trial.spec.task_data for trial in trials}
    assert folders == {"gsm8k": place, "hotpotqa": None, "math": None}
