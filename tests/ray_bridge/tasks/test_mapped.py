"""Tasks by mapping: fixtures in the form of ARC-Challenge, OpenBookQA, MMLU-Redux and C-Eval, and faults of rows."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bridge_common.errors import UserError
from ray_bridge import tiny
from ray_bridge.config.task_mapping import TaskMapping, known_mapping
from ray_bridge.tasks.mapped import MappedTask
from ray_bridge.tasks.splits import load_splits

FIXTURES = Path(__file__).parents[2] / "data" / "mapped"


def task(name: str, **changes: Any) -> MappedTask:
    return MappedTask(known_mapping(name).replace(**changes), str(FIXTURES / name))


def folder(tmp_path: Path, *rows: dict[str, Any]) -> str:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("name", "golds", "prompt"),
    [
        (
            "arc_challenge",
            "CADB",
            "Question: Which planet is closest to the Sun?\nA. Venus\nB. Mars\nC. Mercury\nD. Earth\nAnswer:",
        ),
        (
            "openbookqa",
            "ABCD",
            "Question: Metal spoons in hot soup become\nA. hot\nB. blue\nC. soft\nD. silent\nAnswer:",
        ),
        (
            "mmlu_redux",
            "CCA",
            "Question: Which planet has the most mass?\nA. Mars\nB. Earth\nC. Jupiter\nD. Venus\nAnswer:",
        ),
        ("ceval", "BACD", "人有____个肾脏。\nA. 一\nB. 二\nC. 三\nD. 四\n答案："),
    ],
)
def test_the_four_sets_become_questions_with_letters(name: str, golds: str, prompt: str) -> None:
    examples = task(name).test()
    assert [example.gold for example in examples] == list(golds)
    assert task(name).prompt(examples[0]) == prompt
    assert task(name).continuation(examples[0]) == f" {golds[0]}"
    assert examples[0].id == f"{name}-test-00000"
    assert all(task(name).score(f" {example.gold}", example).correct for example in examples)
    assert len(task(name).train()) == 6


def test_labels_that_are_numbers_and_other_numbers_of_choices_are_read() -> None:
    examples = task("arc_challenge").test()
    assert [len(example.choices) for example in examples] == [4, 4, 5, 3]
    assert examples[1].gold == "A"  # the row says 1


def test_rows_that_were_found_wrong_are_left_out_and_accuracy_is_by_subject() -> None:
    examples = task("mmlu_redux").test()
    assert [example.groups["subject"] for example in examples] == ["astronomy", "abstract_algebra", "anatomy"]
    assert all("group?" not in example.question for example in examples)


def test_a_job_loads_them_by_name() -> None:
    sizes = {"num_fewshot": 2, "validation_examples": 1}
    splits = load_splits(tiny(task="openbookqa", task_data=str(FIXTURES / "openbookqa"), **sizes))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [3, 1, 4]
    assert splits.header.count("\nAnswer: ") == 2


def test_by_likelihood_choices_are_shown_or_not() -> None:
    shown, hidden = task("arc_challenge", kind="letter_likelihood"), task("arc_challenge", kind="choice_likelihood")
    example, bare = shown.test()[0], hidden.test()[0]
    assert "C. Mercury" in example.question
    assert bare.question == "Which planet is closest to the Sun?"
    assert shown.continuations(example) == [" A", " B", " C", " D"]
    assert hidden.continuations(bare) == [" Venus", " Mars", " Mercury", " Earth"]
    assert hidden.continuation(bare) == " Mercury"
    table = "A -4.0000 -0.8000\nB -3.0000 -0.7500\nC -3.5000 -0.5000\nD -5.0000 -1.0000"
    assert shown.answer_text(table, example) == "B"
    assert hidden.answer_text(table, bare) == "Mars"
    assert task("arc_challenge").continuations(example) is None


@pytest.mark.parametrize(
    ("kind", "row", "gold", "output", "right"),
    [
        ("exact", {"q": "Capital?", "a": "Paris"}, "Paris", " paris.\n", True),
        ("exact", {"q": "Year?", "a": 1969}, "1969", "1969", True),
        ("exact", {"q": "Capital?", "a": "Paris"}, "Paris", "Rome", False),
        ("numeric", {"q": "Sum?", "a": "1,000.0"}, "1000", "#### 1000", True),
        ("numeric", {"q": "Sum?", "a": 7}, "7", "#### 7.0", True),
        ("numeric", {"q": "Sum?", "a": 0.5}, "0.5", "#### 0.5", True),
        ("numeric", {"q": "Sum?", "a": "3 + 4 = 7\n#### 7"}, "7", "#### 8", False),
    ],
)
def test_exact_and_numeric_answers(
    tmp_path: Path, kind: Any, row: dict[str, Any], gold: str, output: str, right: bool
) -> None:
    mapping = TaskMapping(name="mine", kind=kind, question="q", gold="a")
    mine = MappedTask(mapping, folder(tmp_path, row))
    (example,) = mine.test()
    assert example.gold == gold
    assert mine.score(output, example).correct is right
    assert mine.score(mine.continuation(example), example).correct


def test_a_worked_answer_is_trained_on_and_ends_as_numeric_answers_do(tmp_path: Path) -> None:
    mapping = TaskMapping(name="mine", kind="numeric", question="q", gold="a", answer="work")
    (example,) = MappedTask(mapping, folder(tmp_path, {"q": "Sum?", "a": 7, "work": "3 + 4 = 7"})).test()
    assert example.answer == "3 + 4 = 7\n#### 7"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answerKey": "E"}, 'answerKey is "E", which is none of the 4 choices'),
        ({"answerKey": ""}, 'answerKey is "", which is none of the 4 choices'),
        ({"answerKey": None}, "answerKey is null, which is none of the 4 choices"),
        ({"choices": {"text": ["one"], "label": ["A"]}}, "a list of 2 to 26 choices is expected"),
        ({"choices": {"text": "one", "label": ["A"]}}, "a list of 2 to 26 choices is expected"),
        ({"choices": {"text": ["a", "", "c", "d"], "label": list("ABCD")}}, "each choice must be text or a number"),
        ({"choices": {"label": ["A"]}}, "no field choices.text"),
        ({"question": None}, "question is null"),
    ],
)
def test_faulty_rows_are_one_line_with_their_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    row = json.loads((FIXTURES / "arc_challenge" / "test.jsonl").read_text().splitlines()[0])
    broken = MappedTask(known_mapping("arc_challenge"), folder(tmp_path, row, row | changes))
    with pytest.raises(UserError) as caught:
        broken.test()
    assert message in str(caught.value)
    assert "test.jsonl, line 2: " in str(caught.value)


def test_an_index_past_the_choices_is_refused(tmp_path: Path) -> None:
    row = {"question": "?", "choices": ["a", "b"], "answer": 2, "error_type": "ok", "config": "x"}
    with pytest.raises(UserError, match="answer is 2, which is none of the 2 choices"):
        MappedTask(known_mapping("mmlu_redux"), folder(tmp_path, row)).test()


def test_all_configurations_of_a_snapshot_are_read_in_a_fixed_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    place, card = tmp_path / "snapshot", ["---", "configs:"]
    for config in ("physician", "accountant"):
        (place / config).mkdir(parents=True)
        card += [f"- config_name: {config}", "  data_files:"]
        for split in ("val", "dev"):
            row = {"id": [0], "question": [f"{config} {split}?"], "A": ["一"], "B": ["二"], "C": ["三"], "D": ["四"]}
            pq.write_table(pa.table(row | {"answer": ["B"]}), place / config / f"{split}-00000-of-00001.parquet")
            card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (place / "README.md").write_text("\n".join([*card, "---", ""]))
    examples = MappedTask(known_mapping("ceval"), str(place)).test()
    assert [(e.question.splitlines()[0], e.groups["subject"]) for e in examples] == [
        ("accountant val?", "accountant"),
        ("physician val?", "physician"),
    ]


def test_without_a_data_set_a_folder_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"names no data set: add \[train\] and \[test\], or give --data DIR"):
        MappedTask(TaskMapping(name="mine", kind="exact", question="q", gold="a")).test()
