"""MATH and HotpotQA: rows from a folder, and their scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny
from ray_bridge.tasks.competition_math import CompetitionMath
from ray_bridge.tasks.hotpotqa import HotpotQA, token_f1
from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.splits import load_splits
from ray_bridge.tasks.task import Example


def folder(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path)


def example(gold: str) -> Example:
    return Example(id="x", index=0, question="?", answer=gold, gold=gold)


@pytest.mark.parametrize(
    ("output", "gold", "strict", "flexible", "valid"),
    [
        (r"so \boxed{\frac{1}{2}}", r"\frac12", True, True, True),
        (r"so \boxed{0.5}", r"\frac{1}{2}", True, True, True),
        (r"\boxed{1} or rather \boxed{2}", "2", True, True, True),
        (r"\boxed{(x+1)^2}", "x^2+2x+1", True, True, True),
        ("the answer is $7$.", "7", False, True, False),
        (r"\boxed{8}", "7", False, False, True),
        (r"\boxed{}", "", False, False, True),
        ("", "7", False, False, False),
        ("\\boxed{7}\n\nQuestion: 2\n\\boxed{9}", "7", True, True, True),
    ],
)
def test_math_scores(output: str, gold: str, strict: bool, flexible: bool, valid: bool) -> None:
    score = CompetitionMath.__new__(CompetitionMath).score(output, example(gold))
    assert (score.correct, score.flexible, score.valid) == (strict, flexible, valid)


def test_boxes_balance_their_braces() -> None:
    assert boxed_answer(r"\boxed{\frac{a}{b}} and more}") == r"\frac{a}{b}"
    assert boxed_answer(r"\boxed{never closed") is None
    assert boxed_answer("nothing") is None


def test_math_rows(tmp_path: Path) -> None:
    rows = [{"problem": "1+1?", "solution": r"It is \boxed{2}.", "level": "Level 1"}]
    task = CompetitionMath(folder(tmp_path, rows))
    assert (task.test()[0].gold, dict(task.test()[0].groups)) == ("2", {"level": "Level 1"})
    with pytest.raises(UserError, match="boxes no answer"):
        CompetitionMath(folder(tmp_path, [{"problem": "?", "solution": "2"}])).test()


@pytest.mark.parametrize(
    ("output", "gold", "exact", "flexible", "f1"),
    [
        (" The Eiffel Tower.", "eiffel tower", True, True, 1.0),
        ("Eiffel", "Eiffel Tower", False, True, 2 / 3),
        ("yes indeed", "yes", False, False, 0.0),
        ("yes\nQuestion: no", "yes", True, True, 1.0),
        ("", "", False, False, 0.0),
        ("the", "a", False, False, 0.0),
        ("Rome", "Paris", False, False, 0.0),
    ],
)
def test_hotpotqa_scores(output: str, gold: str, exact: bool, flexible: bool, f1: float) -> None:
    score = HotpotQA.__new__(HotpotQA).score(output, example(gold))
    assert (score.correct, score.flexible) == (exact, flexible)
    assert score.f1 == pytest.approx(f1)


def test_what_is_scored_is_what_text_bridge_pastes() -> None:
    task, example = HotpotQA(), Example(id="x", index=0, question="?", answer="Paris", gold="Paris")
    assert task.score("\nParis\nRome", example).correct
    assert task.answer_text("\nParis\nRome", example) == "Paris"


def test_f1_counts_repeated_tokens_once_each() -> None:
    assert token_f1("new new york", "new york") == pytest.approx(0.8)


def test_hotpotqa_puts_its_paragraphs_into_the_prompt(tmp_path: Path) -> None:
    context = {"title": ["Paris"], "sentences": [["It is big. ", "It is old."]]}
    task = HotpotQA(folder(tmp_path, [{"question": "How old?", "answer": "old", "context": context}]))
    assert task.prompt(task.test()[0]) == "Question: Paris: It is big. It is old.\nHow old?\nAnswer:"
    with pytest.raises(UserError, match="context is neither"):
        HotpotQA(folder(tmp_path, [{"question": "?", "answer": "!", "context": 3}])).test()


def test_splits_share_no_example_and_the_slice_is_the_same_for_every_seed() -> None:
    first = load_splits(tiny(train_examples=50, validation_examples=20, num_fewshot=3, test_examples=30))
    second = load_splits(tiny(train_examples=50, validation_examples=20, num_fewshot=3, test_examples=30, seed=9))
    assert [e.id for e in first.validation] == [e.id for e in second.validation]
    names = [{e.question for e in part} for part in (first.train, first.validation, first.test)]
    assert [len(part) for part in names] == [50, 20, 30]
    assert sum(map(len, names)) == len(set.union(*names))
    assert first.header.count("Question:") == 3
    assert all(question not in first.header for part in names for question in part)
    assert {e.groups["words"] for e in first.train} == {"none", "seen"}


def test_more_held_out_examples_than_there_are_is_refused(tmp_path: Path) -> None:
    data = folder(tmp_path, [{"question": "?", "answer": "#### 1"}] * 4)
    with pytest.raises(UserError, match="lower them"):
        load_splits(tiny(task="gsm8k", task_data=data, validation_examples=4))


def test_data_for_the_generated_task_is_refused() -> None:
    with pytest.raises(UserError, match="add --task gsm8k"):
        load_splits(tiny(task_data="somewhere"))
