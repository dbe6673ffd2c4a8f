"""Faults of data files: each is one line with file, row and remedy."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.tasks.competition_math import CompetitionMath
from ray_bridge.tasks.gsm8k import GSM8K
from ray_bridge.tasks.hotpotqa import HotpotQA

GOOD = json.dumps({"question": "How many?", "answer": "3 + 4 = 7\n#### 7"}).encode()


def folder(tmp_path: Path, test: bytes, train: bytes = GOOD) -> Path:
    (tmp_path / "train.jsonl").write_bytes(train)
    (tmp_path / "test.jsonl").write_bytes(test)
    return tmp_path


def line(**fields: Any) -> bytes:
    return json.dumps({"question": "How many?", "answer": "#### 7", **fields}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "test.jsonl holds no rows; one JSON object a line is expected"),
        (b"\n \n", "test.jsonl holds no rows; one JSON object a line is expected"),
        (b"{", "test.jsonl, line 1: not JSON"),
        (GOOD + b"\n\n" + GOOD[:-1], "test.jsonl, line 3: not JSON"),
        (b"[1]", "test.jsonl, line 1: list instead of an object; one object a line is expected"),
        (b"null", "test.jsonl, line 1: NoneType instead of an object"),
        (b"[" * 100_000, "test.jsonl, line 1: not JSON (nested too deeply)"),
        (b'{"question": NaN}', "test.jsonl, line 1: not JSON (NaN is not of JSON)"),
        (
            b'{"question": ' + b"9" * 5000 + b"}",
            "test.jsonl, line 1: a number of 5000 digits; write it as text in quotes",
        ),
        (
            b'{"question": 1, "question": 2}',
            "test.jsonl, line 1: the field question stands twice in an object; leave one",
        ),
        (b'{"a": {"b": 1, "b": 2}}', "test.jsonl, line 1: the field b stands twice in an object; leave one"),
        (GOOD.decode().encode("utf-16"), "test.jsonl, line 1: the file is UTF-16; save it as UTF-8"),
        (GOOD.decode().encode("utf-16-le"), "test.jsonl, line 1: the file is UTF-16 or binary; save it as UTF-8"),
        (GOOD.decode().encode("utf-32"), "test.jsonl, line 1: the file is UTF-32; save it as UTF-8"),
        (b'{"question": "caf\xe9"}', "test.jsonl, line 1: not UTF-8 (byte 0xe9 at 18); save the file as UTF-8"),
        (b'{"question": "?"}', "test.jsonl, line 1: no field answer; the row has question"),
        (b"{}", "test.jsonl, line 1: no field question; the row has none"),
        (line(question=None), "test.jsonl, line 1: question is null; text in quotes is expected"),
        (line(question=5), "test.jsonl, line 1: question is 5; text in quotes is expected"),
        (line(question=["?"]), 'test.jsonl, line 1: question is ["?"]; text in quotes is expected'),
        (line(question=""), "test.jsonl, line 1: question is empty; fill it in, or remove the row"),
        (line(question=" \n"), "test.jsonl, line 1: question is empty; fill it in, or remove the row"),
        (line(question="\ud800"), "test.jsonl, line 1: question holds half a surrogate pair"),
        (line(answer=None), "test.jsonl, line 1: answer is null"),
        (line(answer=7), "test.jsonl, line 1: answer is 7"),
        (
            line(answer="7"),
            "not end with '#### number' but with \"7\"; add the number as a last line, as #### 1,000",
        ),
        (line(answer="#### 18%"), 'but with "18%"; write a plain number, as 1,000'),
        (line(answer="#### 1e99999999"), 'but with "1e99999999"; write a plain number'),
        (line(answer="#### 1/2"), 'but with "1/2"; write a plain number'),
        (line(answer="#### "), 'but with ""; write a plain number'),
        (GOOD + b"\n" + line(answer="#### seven"), "test.jsonl, line 2: the answer does not end with '#### number'"),
    ],
)
def test_a_faulty_file_is_one_line_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    place = folder(tmp_path, content)
    with pytest.raises(UserError) as caught:
        GSM8K(str(place)).test()
    assert message in str(caught.value)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_other_line_ends_are_read_as_if_they_were_not_there(tmp_path: Path) -> None:
    rows = GOOD + b"\n" + line(question="Ça?") + b"\n"
    plain = list(GSM8K(str(folder(tmp_path, rows))).test())
    for content in (
        b"\xef\xbb\xbf" + rows,
        rows.replace(b"\n", b"\r\n"),
        rows.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + rows.replace(b"\n", b"\r\n"),
    ):
        assert list(GSM8K(str(folder(tmp_path, content))).test()) == plain
    assert len(plain) == 2


def test_line_breaks_within_text_do_not_split_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\x0bthree\rfour"
    row = json.dumps({"question": text, "answer": "#### 7"}, ensure_ascii=False).encode()
    (example,) = GSM8K(str(folder(tmp_path, row))).test()
    assert example.question == text


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (3, "context is neither text nor titles"),
        ("", "context is neither text nor titles"),
        ({"title": ["a", "b"], "sentences": [["x"]]}, "as many of one as of the other"),
        ({"title": ["a"], "sentences": [[1]]}, "context is neither text nor titles"),
        (None, "context is neither text nor titles"),
        ({"title": None, "sentences": None}, "context is neither text nor titles"),
        ({"title": ["a"], "sentences": None}, "context is neither text nor titles"),
        ({"title": ["a"], "sentences": [None]}, "context is neither text nor titles"),
        ({"title": [None], "sentences": [["a"]]}, "context is neither text nor titles"),
        ({"title": [1], "sentences": [["a"]]}, "context is neither text nor titles"),
        ({"title": [" "], "sentences": [["a"]]}, "context is neither text nor titles"),
        ({"title": "a", "sentences": [["a"]]}, "context is neither text nor titles"),
        ({"title": ["a"], "sentences": ["a"]}, "context is neither text nor titles"),
        ({"title": 3, "sentences": 3}, "context is neither text nor titles"),
        ({"title": [], "sentences": []}, "context is neither text nor titles"),
        ({"title": ["a"], "sentences": [[]]}, "context is neither text nor titles"),
        ({"title": ["a"], "sentences": [["", " "]]}, "context is neither text nor titles"),
        ({"title": ["\ud800"], "sentences": None}, "context is neither text nor titles"),
        ("\ud800", "context holds half a surrogate pair; write the character itself, in UTF-8"),
        ({"title": ["\ud800"], "sentences": [["a"]]}, "context holds half a surrogate pair"),
        ({"title": ["a"], "sentences": [["b", "\udfff"]]}, "context holds half a surrogate pair"),
    ],
)
def test_a_context_that_is_none_is_refused(tmp_path: Path, context: Any, message: str) -> None:
    content = json.dumps({"question": "?", "answer": "!", "context": context}).encode()
    with pytest.raises(UserError, match=rf"^{tmp_path}/test\.jsonl, line 1: [^\n]*{message}[^\n]*$") as caught:
        HotpotQA(str(folder(tmp_path, content))).test()
    assert str(caught.value).encode()


@pytest.mark.parametrize("name", ["type", "level"])
@pytest.mark.parametrize("value", [None, ["hard"], {}])
def test_a_group_of_hotpotqa_that_is_no_name_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    content = json.dumps({"question": "?", "answer": "!", "context": "a", name: value}).encode()
    with pytest.raises(UserError, match=rf"line 1: {name} is .*; text or a number is expected"):
        HotpotQA(str(folder(tmp_path, content))).test()


def test_a_level_that_is_no_name_is_refused(tmp_path: Path) -> None:
    content = json.dumps({"problem": "?", "solution": r"\boxed{1}", "level": None}).encode()
    with pytest.raises(UserError, match=r"line 1: level is null; text or a number is expected"):
        CompetitionMath(str(folder(tmp_path, content))).test()


def solutions(unusable: int, usable: int) -> bytes:
    texts = ["no box"] * unusable + [r"\boxed{1}"] * usable
    rows = [{"problem": f"{number}?", "solution": text} for number, text in enumerate(texts)]
    return b"\n".join(json.dumps(row).encode() for row in rows)


def test_a_few_solutions_without_a_box_are_left_out_and_counted(tmp_path: Path) -> None:
    good = json.dumps({"problem": "Train?", "solution": r"\boxed{1}"}).encode()
    task = CompetitionMath(str(folder(tmp_path, solutions(2, 198), good)))
    assert [len(task.train()), len(task.test())] == [1, 198]
    assert task.test()[0].id == "math-test-00002"  # rows keep their number
    (note,) = task.notes()
    assert note == f"{tmp_path}/test.jsonl: 2 of 200 rows have no usable answer, left out (line 1, line 2)"


def test_more_than_one_in_a_hundred_is_refused(tmp_path: Path) -> None:
    task = CompetitionMath(str(folder(tmp_path, solutions(3, 197))))
    with pytest.raises(
        UserError, match=r"line 1: the solution boxes no answer.*; 3 of 200 rows are like that, at most 1%"
    ):
        task.test()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    place = folder(tmp_path, GOOD)
    (place / "test.jsonl").unlink()
    (place / "test.jsonl").symlink_to(place / "gone.jsonl")
    with pytest.raises(UserError, match=r"no test\.jsonl in"):
        GSM8K(str(place))


def test_questions_that_repeat_are_counted(tmp_path: Path) -> None:
    texts = ["one?", " One? ", "two?", "three?"]
    place = folder(tmp_path, b"\n".join(line(question=text) for text in texts), line(question="two?"))
    leaked, repeated = GSM8K(str(place)).notes()
    assert leaked == (
        f"{place}: 1 of 4 test questions are also training questions (gsm8k-test-00002); "
        "remove them from one of the splits"
    )
    assert repeated == (
        f"{place}: 2 of 4 test questions stand in the test split more than once (gsm8k-test-00000, gsm8k-test-00001); "
        "leave one of each"
    )


def test_files_that_are_not_read_beside_jsonl_are_named(tmp_path: Path) -> None:
    place = folder(tmp_path, line(question="new?"))
    assert GSM8K(str(place)).notes() == []
    (place / "test.csv").write_text("question,answer\n")
    (note,) = GSM8K(str(place)).notes()
    assert note == f"{place}: train.jsonl and test.jsonl are read, test.csv not; remove what is not meant"
