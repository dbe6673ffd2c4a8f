"""`score FILE --task NAME`: both rules beside each other, and the lines on which they differ."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge_common.errors import UserError
from cluster.cli.app import app

DATA = Path(__file__).parents[3].parent / "shared" / "data"
MAPPING = 'name = "trivia"\nkind = "letter"\nquestion = "q"\ngold = "a"\nchoices = "c"\ngold_form = "label"\n'


def score(tmp_path: Path, rows: list[dict[str, object]], *arguments: str) -> Result:
    file = tmp_path / "outputs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return CliRunner().invoke(app, ["score", str(file), *arguments])


def test_shares_and_the_lines_that_differ(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a", "gold": "18", "output": "#### 18"},
        {"id": "b", "gold": "2 x 500\n#### 1,000", "output": "it is 1000"},
        {"id": "c", "gold": 5, "output": "#### 5\nso #### 6"},
        {"id": "d", "gold": 5, "output": "no idea"},
    ]
    written = tmp_path / "scores.jsonl"
    done = score(tmp_path, rows, "--task", "gsm8k", "--out", str(written))
    assert done.exit_code == 0, done.output
    assert "4 outputs, scored as gsm8k" in done.output
    assert "strict             2   50.0%" in done.output
    assert "flexible           2   50.0%" in done.output
    assert "in the format      2   50.0%" in done.output
    assert "strict and flexible differ in 2 of 4 lines" in done.output
    assert "line 2  b  gold '1000': strict wrong, flexible right; no answer in the format" in done.output
    assert "line 3  c  gold '5': strict right, flexible wrong; read '5'" in done.output
    scores = [json.loads(line) for line in written.read_text().splitlines()]
    assert [row["strict"] for row in scores] == [True, False, True, False]
    assert scores[1] == {
        **{"id": "b", "gold": "1000", "answer": None},
        **{"strict": False, "flexible": True, "valid": False, "stopped": None},
    }


def test_a_gold_answer_may_be_a_solution_of_another_task(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"gold": "9 * 2\n#### 18", "output": r"so \boxed{18}"},
        {"gold": r"so \boxed{18}", "output": r"so \boxed{18}"},
        {"gold": "all real numbers", "output": r"\boxed{\mathbb{R}}"},
    ]
    done = score(tmp_path, rows, "--task", "math")
    assert done.exit_code == 0, done.output
    assert "strict             3  100.0%" in done.output


def test_a_number_of_json_is_compared_as_it_is_written(tmp_path: Path) -> None:
    long = "0.1234567890123456789012345678901234567"
    file = tmp_path / "outputs.jsonl"
    file.write_text("\n".join(f'{{"gold": {long}, "output": "#### {long[:-1]}{end}"}}' for end in "78"))
    done = CliRunner().invoke(app, ["score", str(file), "--task", "gsm8k"])
    assert "strict             1   50.0%" in done.output, done.output


def test_ids_that_repeat_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": name, "gold": 1, "output": "#### 1"} for name in "abbca"]
    done = score(tmp_path, rows, "--task", "gsm8k")
    assert "ids on more than one line, each line counted: 2 (a, b)" in done.output, done.output


def test_what_was_stopped_is_listed(tmp_path: Path) -> None:
    done = score(tmp_path, [{"id": "a", "gold": "7", "output": r"\boxed{10^{10^{10^{10}}}}"}], "--task", "math")
    assert "1 stopped at a limit of time or memory, counted as wrong:" in done.output
    assert "line 1  a: more than 0.9 s of CPU time" in done.output


def test_a_task_may_be_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "trivia.toml").write_text(MAPPING)
    rows: list[dict[str, object]] = [{"id": 1, "gold": "B", "output": "(B)", "choices": ["Rome", "Paris"]}]
    done = score(tmp_path, rows, "--task", str(tmp_path / "trivia.toml"))
    assert "strict             1  100.0%" in done.output, done.output


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        ({"gold": "1"}, "gsm8k", "line 1: no field output; the row has gold"),
        ({"gold": "18%", "output": "x"}, "gsm8k", 'line 1: the gold answer is "18%"; write a plain number'),
        ({"gold": None, "output": "x"}, "gsm8k", "line 1: gold is null"),
        ({"gold": "1", "output": None}, "gsm8k", "line 1: output is null; text in quotes is expected"),
        ({"output": "x"}, "gsm8k", "line 1: no field gold"),
        ({"gold": 10**4299, "output": "x"}, "arc_challenge", "line 1: gold is"),
        ({"gold": "1" * 6000, "output": "x"}, "arc_challenge", "line 1: gold is"),
        ({"gold": "B", "output": "B"}, "arc_challenge", "a letter of the row's list `choices` is expected"),
        ({"gold": "So the answer is 5.", "output": "x"}, "math", "line 1: gold is prose that boxes no answer"),
        ({"gold": "There remain $5$ apples", "output": "x"}, "math", "line 1: gold is prose that boxes no answer"),
        ({"gold": "2\\boxed", "output": "x"}, "math", "line 1: gold boxes no answer"),
        ({"gold": "1", "output": "1"}, "gsm9k", "there are synthetic, gsm8k"),
        ({"gold": "1", "output": "1"}, "nothing.toml", "task mapping nothing.toml"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, row: dict[str, object], task: str, message: str) -> None:
    done = score(tmp_path, [row], "--task", task)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data files are not beside this checkout")
def test_a_file_of_a_real_run() -> None:
    file = str(DATA / "reference_runs" / "full.jsonl")
    done = CliRunner().invoke(app, ["score", file, "--task", "gsm8k", "--field", "bridged_output"])
    assert "strict           128   64.0%" in done.output, done.output
    assert "flexible         129   64.5%" in done.output


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": None}, "line 2: id is null; text or a number is expected, or leave the field out"),
        ({"id": ["a"]}, 'line 2: id is ["a"]; text or a number is expected'),
        ({"id": True}, "line 2: id is true; text or a number is expected"),
        ({"index": None}, "line 2: index is null; text or a number is expected"),
        ({"id": "\ud800"}, "line 2: id holds half a surrogate pair"),
    ],
)
def test_an_id_that_is_none_is_refused(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"id": 1, "gold": 1, "output": "#### 1"}
    done = score(tmp_path, [good, {"gold": 1, "output": "#### 1", **fields}], "--task", "gsm8k")
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


def test_codes_in_outputs_and_ids_reach_no_terminal(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": "a\x1b[2J", "gold": "18", "output": "\x9b31m it is 18"}]
    done = score(tmp_path, rows, "--task", "gsm8k")
    assert done.exit_code == 0, done.output
    assert "a␛[2J" in done.output
    assert not {"\x1b", "\x9b"} & set(done.output)


def test_outputs_may_come_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    row = '{"gold": "18", "output": "#### 18"}'
    with subprocess.Popen(["sh", "-c", f"echo '{row}' > \"$0\"", str(tmp_path / "pipe")]):
        done = CliRunner().invoke(app, ["score", str(tmp_path / "pipe"), "--task", "gsm8k"])
    assert "strict             1  100.0%" in done.output, done.output


def test_scores_are_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "scores").symlink_to("elsewhere")
    done = score(tmp_path, [{"gold": "18", "output": "18"}], "--task", "gsm8k", "--out", str(tmp_path / "scores"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "scores").is_symlink()
    assert json.loads((tmp_path / "elsewhere").read_text())["flexible"]
