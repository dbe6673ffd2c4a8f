"""Faults of mapped rows that Python itself would raise on are one line with file and remedy."""

import json
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from ray_bridge import check_data, tiny

MAPPING = 'name = "own"\nkind = "letter"\nquestion = "question"\nchoices = "choices"\ngold = "gold"\n'
ROW = {"question": "Which?", "choices": ["a", "b"]}
GOOD = ROW | {"gold": "a"}
NUMERIC = 'name = "own"\nkind = "numeric"\nquestion = "question"\ngold = "gold"\nanswer = "work"\n'


def fault(folder: Path, mapping: str, *rows: dict[str, object]) -> str:
    """The one line that a mapping and rows are refused with."""
    from cluster.cli.request import task_fields

    (folder / "own.toml").write_text(mapping)
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as error:
        check_data(tiny(**task_fields(str(folder / "own.toml")), task_data=str(folder)))
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ('gold_form = "label"\nlabels = "labels"\n', {"gold": "A", "labels": None}),
        ('gold_form = "label"\nlabels = "labels"\n', {"gold": "A", "labels": "AB"}),
        ('gold_form = "index"\n', {"gold": "9" * 5000}),
    ],
)
def test_a_row_that_cannot_be_used_is_one_line(tmp_path: Path, settings: str, row: dict[str, object]) -> None:
    assert "train.jsonl, line 1: " in fault(tmp_path, MAPPING + settings, ROW | row)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([True, False], "choices is [true, false]; each choice must be text or a number"),
        (["a", None], 'choices is ["a", null]; each choice must be text or a number'),
        (["a", ["b"]], 'choices is ["a", ["b"]]; each choice must be text or a number'),
        (["a", "\ud800"], "choices holds half a surrogate pair; write the character itself, in UTF-8"),
        (["a", "a"], 'choices is ["a", "a"]; each choice must differ from the others'),
        (["a", " a"], 'choices is ["a", " a"]; each choice must differ from the others'),
    ],
)
def test_choices_that_cannot_be_told_apart_or_shown_are_refused(
    tmp_path: Path, choices: list[object], message: str
) -> None:
    assert f"line 2: {message}" in fault(tmp_path, MAPPING, GOOD, GOOD | {"choices": choices})


def test_a_few_rows_with_equal_choices_are_left_out_and_counted(tmp_path: Path) -> None:
    from cluster.cli.request import task_fields

    (tmp_path / "own.toml").write_text(MAPPING)
    rows = [GOOD] * 300 + [GOOD | {"choices": ["a", "a"]}]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    notes = check_data(tiny(**task_fields(str(tmp_path / "own.toml")), task_data=str(tmp_path)))
    assert notes[1] == f"{tmp_path}/test.jsonl: 1 of 301 rows have no usable answer, left out (line 301)"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "test.jsonl: keep names the field verified, which no row has: correct the mapping's keep"),
        (
            {"verified": "no"},
            'train.jsonl: no row has what keep asks for (verified is "no"): correct the mapping\'s keep',
        ),
    ],
)
def test_a_keep_that_matches_no_row_is_refused(tmp_path: Path, row: dict[str, str], message: str) -> None:
    assert message in fault(tmp_path, MAPPING + 'keep = { verified = "yes" }\n', *[GOOD | row] * 200)


@pytest.mark.parametrize("value", [None, ["x"], {"x": 1}])
def test_a_group_that_is_no_name_is_refused(tmp_path: Path, value: object) -> None:
    message = fault(tmp_path, MAPPING + 'groups = { topic = "topic" }\n', GOOD | {"topic": value})
    assert f"line 1: topic is {json.dumps(value)}; text or a number is expected" in message


def test_a_worked_answer_that_contradicts_gold_is_refused(tmp_path: Path) -> None:
    message = fault(tmp_path, NUMERIC, {"question": "?", "gold": 5, "work": "2 + 4 = 6\n#### 6"})
    assert "line 1: work ends in 6, but gold is 5: correct one" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('goldform = "text"', "unknown field 'goldform': did you mean gold_form or gold?"),
        ('zzz = "text"', "unknown field 'zzz': there are name, kind, train, test, question"),
        ('[trian]\ndata = "me/x"', "unknown field 'trian': did you mean train?"),
        ('[train]\ndta = "me/x"\nsplit = "a"', "unknown field 'train.dta': did you mean data?"),
    ],
)
def test_an_unknown_key_of_a_mapping_is_named_with_what_was_meant(tmp_path: Path, line: str, message: str) -> None:
    assert message in fault(tmp_path, f"{MAPPING}{line}\n", GOOD)
