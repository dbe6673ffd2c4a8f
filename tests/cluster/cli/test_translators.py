"""`translate`, `export` and `verify` as a user calls them, on a trial that was trained here."""

import json
import shutil
from pathlib import Path

import pytest
from click import UsageError
from click.testing import CliRunner, Result

from bridge_common.errors import UserError
from bridge_common.files import read_json, read_jsonl, write_jsonl
from cluster.cli.app import app
from cluster.cli.translators import read_questions
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.model_pairs import make_pair


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = small_spec(make_pair(tmp_path_factory.mktemp("pair")), steps=2, eval_every=2, warmup_steps=1)
    return finish_trial(spec, tmp_path_factory.mktemp("campaign") / "trials" / "full-0")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), standalone_mode=False)


def test_a_question_is_answered_as_recorded(trial: Path) -> None:
    row = read_jsonl(trial / "samples.jsonl")[0]
    assert call("translate", trial, row["question"]).output == row["bridged_output"] + "\n"


def test_a_file_is_answered_line_by_line(trial: Path, tmp_path: Path) -> None:
    rows = read_jsonl(trial / "samples.jsonl")
    write_jsonl(tmp_path / "asked.jsonl", [{"id": row["id"], "question": row["question"]} for row in rows])
    lines = [
        json.loads(line) for line in call("translate", trial, "--file", tmp_path / "asked.jsonl").output.splitlines()
    ]
    assert [line["id"] for line in lines] == [row["id"] for row in rows]
    assert [line["answer"] for line in lines] == [row["bridged_output"] for row in rows]


def test_conditions_stand_side_by_side(trial: Path) -> None:
    row = read_jsonl(trial / "samples.jsonl")[0]
    text = call("translate", trial, row["question"], "--compare").output
    assert text.startswith("bridged (")
    assert "\nrandom soft (" in text
    found = json.loads(call("translate", trial, row["question"], "--compare", "--json").output)
    assert found["target_alone"]["answer"] == row["target_alone_output"]


def test_an_exported_bundle_is_verified(trial: Path, tmp_path: Path) -> None:
    written = call("export", trial, tmp_path / "bundle", "--bundle").output.split()
    assert {Path(path).name for path in written} >= {"config.json", "README.md", "samples.jsonl", "trial.json"}
    done = call("verify", tmp_path / "bundle", "--items", 5)
    assert done.output == "5 of 5 recorded answers came out byte for byte, 5 with the recorded verdict\n"
    assert not done.return_value
    rows = read_jsonl(tmp_path / "bundle" / "samples.jsonl")
    forged = [row | {"bridged_output": "#### 1", "bridged_correct": not row["bridged_correct"]} for row in rows]
    write_jsonl(tmp_path / "bundle" / "samples.jsonl", forged)
    done = call("verify", tmp_path / "bundle", "--items", 5)
    assert done.return_value == 1
    assert done.output.startswith("0 of 5 recorded answers came out byte for byte, 0 with")


def test_an_export_does_not_overwrite_unasked(trial: Path, tmp_path: Path) -> None:
    assert call("export", trial, tmp_path).exception is None
    (tmp_path / "mine.txt").write_text("keep")
    assert "is not empty" in str(call("export", trial, tmp_path).exception)
    assert call("export", trial, tmp_path, "--overwrite").exception is None
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert read_json(tmp_path / "config.json")["translator_format"] == 1


@pytest.mark.parametrize("config", [None, "{", '{"architectures": ["LlamaForCausalLM"]}'])
def test_an_export_overwrites_no_folder_of_something_else(config: str | None, trial: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert "holds no earlier export" in str(call("export", trial, tmp_path, "--overwrite").exception)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_an_export_goes_into_no_trial(trial: Path) -> None:
    assert "outside it" in str(call("export", trial, trial / "export").exception)
    assert "holds no earlier export" in str(call("export", trial, trial, "--overwrite").exception)


def test_verify_fails_if_an_answer_differs_in_float64(trial: Path, tmp_path: Path) -> None:
    call("export", trial, tmp_path / "bundle", "--bundle")
    assert read_json(tmp_path / "bundle" / "config.json")["spec"]["eval_dtype"] == "float64"
    rows = read_jsonl(tmp_path / "bundle" / "samples.jsonl")
    rows[0]["bridged_output"] += " "  # the verdict stays
    write_jsonl(tmp_path / "bundle" / "samples.jsonl", rows)
    done = call("verify", tmp_path / "bundle", "--items", 2)
    assert done.return_value == 1
    assert done.output.startswith("1 of 2 recorded answers came out byte for byte, 2 with")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "nowhere", "x"], "no such folder"),
        (["translate", "TRIAL"], "give one question"),
        (["translate", "TRIAL", "x", "--file", "f"], "give one question"),
        (["translate", "TRIAL", " "], "the question is empty"),
        (["translate", "nowhere", "\udcff"], "the question is no valid Unicode text"),
        (["translate", "nowhere", "x", "--temperature", "-1"], "-1.0 is not in the range 0<=x<=100"),
        (["translate", "nowhere", "x", "--temperature", "nan"], "nan is "),
        (["translate", "TRIAL", "x", "--compare", "--temperature", "1"], "--compare decodes as the evaluation"),
        (["translate", "TRIAL", "--file", "missing.jsonl"], "cannot read missing.jsonl"),
        (["translate", "TRIAL", "x", "--device", "cuda"], "torch sees 0 GPUs here"),
        (["translate", "TRIAL", "x", "--device", "toaster"], "use cpu, cuda"),
        (["translate", "TRIAL", "x", "--source", "nobody/nothing"], "cannot load the checkpoint nobody/nothing"),
        (["verify", "nowhere"], "no such folder"),
        (["export", "TRIAL", "FILE"], "is a file: name a folder"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(arguments: list[str], message: str, trial: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places = {"TRIAL": str(trial), "FILE": str(tmp_path / "file")}
    error = call(*(places.get(argument, argument) for argument in arguments)).exception
    assert isinstance(error, UserError | UsageError)
    assert message in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["export", "TRIAL", "OUT", "--bundle"],
            "a bundle needs a finished trial's folder; full-0 has no samples.jsonl",
        ),
        (["export", "TRIAL", "/sys/kernel/x"], "cannot write into FOLDER /sys/kernel"),
        (["verify", "TRIAL"], "full-0 has no recorded answers to verify"),
    ],
)
def test_what_cannot_be_done_is_said_before_models_are_loaded(
    arguments: list[str], message: str, trial: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(trial, tmp_path / trial.name)
    (copy / "samples.jsonl").unlink()
    (copy / "selected" / "translator.safetensors").write_bytes(b"")  # which loading would name
    places = {"TRIAL": str(copy), "OUT": str(tmp_path / "out")}
    error = call(*(places.get(argument, argument) for argument in arguments)).exception
    assert isinstance(error, UserError)
    assert message in str(error)


def test_lines_of_a_file_end_at_newlines_alone(tmp_path: Path) -> None:
    text = "Ann has 3 pens.\u2028Tom has 2.\x85 How many?"
    write_jsonl(tmp_path / "asked.jsonl", [{"id": "a", "question": text}, {"id": "b", "question": "x"}])
    assert read_questions(tmp_path / "asked.jsonl") == [("a", text), ("b", "x")]


def test_a_question_that_is_too_long_is_named_before_others_are_answered(trial: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "asked.jsonl", [{"question": "x"}] * 40 + [{"question": "字 " * 3000}])
    done = call("translate", trial, "--file", tmp_path / "asked.jsonl")
    assert "asked.jsonl, question 41: " in str(done.exception)
    assert "ask a shorter question" in str(done.exception)
    assert done.output == ""


def test_an_id_that_is_null_is_none(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "asked.jsonl", [{"id": None, "question": "x"}, {"id": 7, "question": "y"}])
    assert read_questions(tmp_path / "asked.jsonl") == [("", "x"), ("7", "y")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no questions"),
        ('{"question": "a", "id": {"a": 1}}', "line 1: the id is neither a text nor a number"),
        ('{"question": "a", "id": true}', "line 1: the id is neither a text nor a number"),
        ('{"question": "a", "id": NaN}', "line 1: the id is neither a text nor a number"),
        ('{"question": "a"}\n{', "line 2: no JSON"),
        ('{"question": null}', 'line 1: give {"question": "..."}'),
        ('{"text": "a"}', "line 1: give"),
        ("7", "line 1: give"),
        ("[" * 100_000, "line 1: no JSON"),
        ('"a"\n{"question": "\\ud800"}', "line 2: the question is no valid Unicode text"),
        ('{"question": "a", "id": "\\ud800"}', "line 1: the id is no valid Unicode text"),
    ],
)
def test_a_file_of_no_questions_names_the_line(content: str, message: str, trial: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text(content)
    assert message in str(call("translate", trial, "--file", tmp_path / "asked.jsonl").exception)
