"""GSM8K scoring, strict and flexible."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge_common.errors import UserError
from ray_bridge.tasks.data.rows import RowError
from ray_bridge.tasks.gsm8k import GSM8K
from ray_bridge.tasks.scoring import cut, gold_number, last_number, normalise_number, score_number, strict_answer

DATA = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.mark.parametrize(
    "text", ["#### 18", "####18", "#### 18.", "#### $18", "#### 18.0", "so\n#### 18\n", "#### 18,"]
)
def test_written_forms_of_one_number_count_strictly(text: str) -> None:
    score = score_number(text, "18")
    assert (score.answer, score.correct, score.flexible, score.valid) == ("18", True, True, True)


@pytest.mark.parametrize(
    ("text", "gold", "strict", "flexible", "valid"),
    [
        ("#### 1,000", "1000", True, True, True),
        ("#### -3", "-3", True, True, True),
        ("#### $-3.50", "-3.5", True, True, True),
        ("the answer is 18", "18", False, True, False),
        ("#### 17\nno, 18", "18", False, True, True),
        ("#### 18 #### 19", "18", True, False, True),
        ("####", "18", False, False, False),
        ("", "", False, False, False),
        ("", "18", False, False, False),
        ("#### .", "", False, False, False),
        ("#### 180", "18", False, False, True),
        ("#### 18.5", "18", False, False, True),
    ],
)
def test_scores(text: str, gold: str, strict: bool, flexible: bool, valid: bool) -> None:
    score = score_number(text, gold)
    assert (score.correct, score.flexible, score.valid) == (strict, flexible, valid)


@given(st.integers(-(10**9), 10**9))
def test_any_integer_is_read_in_any_dress(value: int) -> None:
    for text in (f"#### {value}", f"####{value:,}", f"#### {value}.00", f"so #### {value}.\nQ: 3"):
        assert strict_answer(text) == normalise_number(str(value))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1,000.50", "1000.5"),
        ("1 000", "1000"),
        ("-3", "-3"),
        ("$-3", "-3"),
        ("-$3", "-3"),
        ("+3", "3"),
        ("-0.0", "0"),
        ("0", "0"),
        ("007", "7"),
        (".5", "0.5"),
        ("0.0010", "0.001"),
        ("5e3", "5000"),
        ("1.5e1", "15"),
        ("1.25e1", "12.5"),
        ("1.5E-2", "0.015"),
        ("5e-1", "0.5"),
        ("5e-2", "0.05"),
        ("１２", "12"),
        ("18.", "18"),
        ("18%", None),
        ("", None),
        (None, None),
    ],
)
def test_the_one_written_form_of_a_number(text: str | None, written: str | None) -> None:
    assert normalise_number(text) == written


@pytest.mark.parametrize(
    ("text", "number"), [("18", "18"), ("3 + 4\n#### 1,000", "1000"), ("#### 1 #### 2", "2"), ("####-3", "-3")]
)
def test_a_gold_answer_is_a_number_or_what_follows_its_last_mark(text: str, number: str) -> None:
    assert gold_number(text) == number


@pytest.mark.parametrize(("text", "said"), [("so #### 18%", '"18%"'), ("eighteen", '"eighteen"'), ("#### ", '""')])
def test_a_gold_answer_that_is_no_number_is_refused(text: str, said: str) -> None:
    with pytest.raises(RowError, match=f"the gold answer is {said}; write a plain number, as 1,000"):
        gold_number(text)


@pytest.mark.parametrize(
    ("text", "before"), [("a\nQ: b", "a"), ("\nQ: b", ""), ("a\nR: b\nQ: c", "a"), ("a Q: b", "a Q: b"), ("", "")]
)
def test_a_text_is_cut_at_the_first_of_its_stops(text: str, before: str) -> None:
    assert cut(text, ("\nQ:", "\nR:")) == before
    assert cut(text, ()) == text


@pytest.mark.parametrize("line", ["**Q:** x", "**Q**: x", "## Q: x", "> Q: x", " _Q:_ x"])
def test_a_stop_text_in_markdown_cuts_too(line: str) -> None:
    assert cut(f"a\n{line}", ("\nQ:", "\nR:")) == "a"
    assert cut(f"a {line}\nbQ: Q", ("\nQ:", "\nR:")) == f"a {line}\nbQ: Q"


@given(st.text())
def test_no_text_breaks_the_scorer(text: str) -> None:
    score_number(text, text)
    last_number(text)


def test_text_behind_a_stop_does_not_count() -> None:
    assert cut("#### 5\n\nQuestion: 3\n#### 7", ("\nQuestion:", "\nQ:")) == "#### 5\n"
    task = GSM8K.__new__(GSM8K)
    example = type("Example", (), {"gold": "5"})()
    assert GSM8K.score(task, "I say 5\n\nQ: is it 7?", example).flexible


def test_data_from_a_folder(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "3 + 4 = 7\n#### 7"}
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    task = GSM8K(str(tmp_path))
    example = task.test()[0]
    assert (example.id, example.gold) == ("gsm8k-test-00000", "7")
    assert task.header([example]) == "Question: How many?\nAnswer: 3 + 4 = 7\n#### 7\n\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "?"}', "no field answer"),
        ('{"question": "?", "answer": "7"}', "does not end with '#### number'"),
        ("{", "line 1: not JSON"),
        ("[1]", "one object a line is expected"),
    ],
)
def test_wrong_data_is_named(tmp_path: Path, content: str, message: str) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(content + "\n")
    with pytest.raises(UserError, match=message):
        GSM8K(str(tmp_path)).test()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no train\.jsonl in"):
        GSM8K(str(tmp_path))


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data files are not beside this checkout")
def test_real_data_and_real_predictions() -> None:
    task = GSM8K(str(DATA / "gsm8k"))
    assert (len(task.train()), len(task.test())) == (7473, 1319)
    rows = [json.loads(line) for line in (DATA / "reference_runs" / "full.jsonl").read_text().splitlines()]
    correct = [score_number(cut(row["bridged_output"], task.stops), row["gold"]) for row in rows]
    assert sum(score.correct or score.flexible for score in correct) >= 129
