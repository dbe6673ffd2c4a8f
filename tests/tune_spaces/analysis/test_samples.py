"""Reading sample files, ours and others', and refusing sets that do not match."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from tune_spaces.analysis.item_alignment import align_items
from tune_spaces.analysis.samples import is_correct, is_valid, load_samples, read_rows

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "data" / "reference_runs"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(index: int, answer: Any, gold: Any = "18", **more: Any) -> dict[str, Any]:
    return {"index": index, "gold": gold, "bridged_answer": answer, **more}


@pytest.mark.parametrize("answer", ["18", "18.", "$18", "18.0", " 18 ", "#### 18", "####18", "$18.00", 18, 18.0, "+18"])
def test_numbers_are_compared_as_numbers(answer: Any) -> None:
    assert is_correct(answer, "18")
    assert not is_correct(answer, "-18")


def test_more_spellings_of_numbers() -> None:
    assert is_correct("1,000", "1000")
    assert is_correct("$1,234,567.50", "1234567.5")
    assert is_correct("-$5", "-5")
    assert is_correct(".5", "0.5")
    assert not is_correct("1.000", "1000")
    assert not is_correct("18 apples", "18")


def test_text_is_compared_as_text() -> None:
    assert is_correct(" Blue  fox ", "blue fox")
    assert not is_correct("red fox", "blue fox")


@pytest.mark.parametrize("nothing", [None, "", "   ", "[invalid]", float("nan")])
def test_nothing_is_invalid_and_never_correct(nothing: Any) -> None:
    assert not is_valid(nothing)
    assert not is_correct(nothing, nothing)
    assert not is_correct(nothing, "18")


def test_reads_a_foreign_file_with_its_other_conditions(tmp_path: Path) -> None:
    rows = [
        row(0, "18", target_answer="17", source_answer="18."),
        row(1, None, target_answer="18", source_answer=""),
        row(2, "$18", target_answer=None, source_answer="18"),
    ]
    samples = load_samples(write(tmp_path / "a.jsonl", rows))
    assert samples.n == 3
    assert set(samples.conditions) == {"bridged", "target_alone", "source_alone"}
    assert samples.conditions["bridged"].correct.tolist() == [True, False, True]
    assert samples.conditions["bridged"].invalid == 1
    assert samples.conditions["target_alone"].correct.tolist() == [False, True, False]
    assert samples.conditions["source_alone"].invalid == 1


def test_a_verdict_in_the_file_counts(tmp_path: Path) -> None:
    rows = [
        row(0, "\\frac{1}{2}", "0.5", bridged_correct=True, bridged_valid=True, id="a"),
        row(1, "5", "5", bridged_correct=False, bridged_valid=False, id="b"),
    ]
    bridged = load_samples(write(tmp_path / "a.jsonl", rows)).conditions["bridged"]
    assert bridged.correct.tolist() == [True, False]
    assert bridged.invalid == 1


def test_aligns_by_id_not_by_line(tmp_path: Path) -> None:
    first = load_samples(write(tmp_path / "a.jsonl", [row(0, "1", "1"), row(1, "2", "3"), row(2, "3", "5")]))
    second = load_samples(write(tmp_path / "b.jsonl", [row(2, "9", "5"), row(1, "3", "3"), row(0, "1", "1")]))
    aligned = align_items({"a": first, "b": second})
    assert aligned["a"].conditions["bridged"].correct.tolist() == [True, False, False]
    assert aligned["b"].conditions["bridged"].correct.tolist() == [True, True, False]
    assert [r["index"] for r in read_rows(aligned["b"], [2, 0])] == [2, 0]


def test_ids_may_be_numbers_or_text_and_files_may_share_only_the_index(tmp_path: Path) -> None:
    ours = load_samples(write(tmp_path / "a.jsonl", [row(0, "1", "1", id="gsm8k-0"), row(1, "2", "2", id="gsm8k-1")]))
    other = load_samples(write(tmp_path / "b.jsonl", [row(1, "2", "2"), row(0, "4", "1")]))
    named = load_samples(write(tmp_path / "c.jsonl", [{"id": "0", "gold": "1", "bridged_answer": "1"}]))
    number = load_samples(write(tmp_path / "d.jsonl", [{"id": 0, "gold": "1", "bridged_answer": "1"}]))
    assert align_items({"ours": ours, "other": other})["other"].conditions["bridged"].correct.tolist() == [False, True]
    assert align_items({"named": named, "number": number})["number"].n == 1
    with pytest.raises(UserError, match="neither id nor index"):
        align_items({"other": other, "named": named})


def test_refuses_different_items(tmp_path: Path) -> None:
    full = load_samples(write(tmp_path / "a.jsonl", [row(0, "1"), row(1, "1"), row(2, "1")]))
    short = load_samples(write(tmp_path / "b.jsonl", [row(0, "1"), row(1, "1")]))
    other = load_samples(write(tmp_path / "c.jsonl", [row(0, "1"), row(1, "1"), row(7, "1")]))
    with pytest.raises(UserError, match=r"full .*3 items.* short .*2 items"):
        align_items({"full": full, "short": short})
    with pytest.raises(UserError, match=r"not the same items.*7"):
        align_items({"full": full, "other": other})


def test_refuses_equal_ids_with_other_gold_answers_or_questions(tmp_path: Path) -> None:
    a = load_samples(write(tmp_path / "a.jsonl", [row(0, "1", "18", question="How many eggs?")]))
    same = load_samples(write(tmp_path / "b.jsonl", [row(0, "1", "18.0", question="How  many eggs? ")]))
    gold = load_samples(write(tmp_path / "c.jsonl", [row(0, "1", "19", question="How many eggs?")]))
    question = load_samples(write(tmp_path / "d.jsonl", [row(0, "1", "18", question="How many hens?")]))
    silent = load_samples(write(tmp_path / "e.jsonl", [row(0, "1", "18")]))
    align_items({"a": a, "same": same, "silent": silent})
    with pytest.raises(UserError, match="gold"):
        align_items({"a": a, "gold": gold})
    with pytest.raises(UserError, match="question"):
        align_items({"a": a, "question": question})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no samples"),
        ('{"index": 0, "gold": "1", "bridged_answer": "1"}\n{"index": 1, "go', "line 2"),
        ("[1, 2]\n", "line 1"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"index": 0, "gold": "1", "bridged_answer": "\\uD83D"}\n', "line 1: holds half a surrogate pair"),
        ('{"gold": "1", "bridged_answer": "1"}\n', "neither id nor index"),
        ('{"index": null, "gold": "1", "bridged_answer": "1"}\n', "line 1"),
        ('{"index": 0, "bridged_answer": "1"}\n', "gold"),
        ('{"index": 0, "gold": "1", "target_answer": "1"}\n', "bridged_answer"),
        ('{"index": 0, "gold": "1", "bridged_answer": "1", "bridged_correct": "yes"}\n', "bridged_correct is 'yes'"),
        ('{"index": 0, "gold": "1", "bridged_answer": "1", "bridged_valid": 1}\n', "bridged_valid is 1"),
        ('{"index": 0, "gold": "1", "bridged_answer": "1"}\n' * 2, "twice"),
    ],
)
def test_refuses_files_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_samples(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_a_missing_file_a_folder_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_samples(tmp_path / "absent.jsonl")
    with pytest.raises(UserError, match="folder"):
        load_samples(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01\n")
    with pytest.raises(UserError, match="line 1"):
        load_samples(tmp_path / "binary")


def test_blank_lines_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(row(0, "18", question="π 😀")), "", json.dumps(row(1, "17", question="ρ"))]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    samples = load_samples(path)
    assert samples.conditions["bridged"].correct.tolist() == [True, False]
    assert read_rows(samples, [1])[0]["question"] == "ρ"


@pytest.mark.skipif(not REFERENCE.exists(), reason="reference runs are not beside this checkout")
def test_the_reference_runs() -> None:
    runs = align_items({name: load_samples(REFERENCE / f"{name}.jsonl") for name in ("full", "ablation_b")})
    correct = {name: int(run.conditions["bridged"].correct.sum()) for name, run in runs.items()}
    assert correct == {"full": 129, "ablation_b": 125}
    assert {run.n for run in runs.values()} == {200}
    assert {name: run.conditions["bridged"].invalid for name, run in runs.items()} == {"full": 15, "ablation_b": 11}


def test_a_run_in_another_order_keeps_each_item_together(tmp_path: Path) -> None:
    rows = [row(i, str(i) if i % 2 else None, str(i), question=f"What is {i}?", cluster=f"c{i // 2}") for i in range(4)]
    run = load_samples(write(tmp_path / "a.jsonl", rows))
    turned = run.take([3, 0, 2])
    assert run.questions is not None
    assert turned.keys == {"index": ("3", "0", "2")}
    assert turned.gold == ("3", "0", "2")
    assert turned.questions == (run.questions[3], run.questions[0], run.questions[2])
    assert turned.clusters == ("c1", "c0", "c1")
    assert turned.conditions["bridged"].correct.tolist() == [True, False, False]
    assert turned.conditions["bridged"].valid.tolist() == [True, False, False]
    assert turned.offsets.tolist() == run.offsets[[3, 0, 2]].tolist()
    assert (turned.n, run.n) == (3, 4)
    plain = load_samples(write(tmp_path / "b.jsonl", [row(0, "1"), row(1, "1")])).take([1, 0])
    assert (plain.questions, plain.clusters) == (None, None)


def test_clusters_are_numbered_and_items_that_name_none_stand_alone(tmp_path: Path) -> None:
    rows = [row(0, "1", cluster="b"), row(1, "1"), row(2, "1", cluster="a"), row(3, "1", cluster="b")]
    numbers = load_samples(write(tmp_path / "a.jsonl", rows)).cluster_numbers()
    assert numbers is not None
    assert len(set(numbers.tolist())) == 3
    assert numbers[0] == numbers[3]
    rows = [row(0, "1", cluster="b"), *(row(i, "1", cluster=c) for i, c in enumerate([None, None, "", "", "b"], 1))]
    numbers = load_samples(write(tmp_path / "empty.jsonl", rows)).cluster_numbers()
    assert numbers is not None
    assert len(set(numbers.tolist())) == 5, "nothing is no name of a cluster"
    alone = load_samples(write(tmp_path / "b.jsonl", [row(0, "1", cluster="a"), row(1, "1", cluster="b")]))
    assert alone.cluster_numbers() is None


def test_one_question_that_is_missing_means_that_questions_are_not_compared(tmp_path: Path) -> None:
    rows = [row(0, "1", question="How many?"), row(1, "1")]
    assert load_samples(write(tmp_path / "a.jsonl", rows)).questions is None


def test_questions_are_the_same_whatever_their_spacing(tmp_path: Path) -> None:
    spaced, dense = (
        load_samples(write(tmp_path / name, [row(0, "1", question=question)]))
        for name, question in (("a.jsonl", "What is 2 + 2 ?"), ("b.jsonl", "What is 2+2?\n"))
    )
    assert spaced.questions == dense.questions


def test_a_line_without_its_id_is_named(tmp_path: Path) -> None:
    for rows in ([row(0, "1", id="a"), row(1, "1")], [row(0, "1", id="a"), row(1, "1", id=None)]):
        with pytest.raises(UserError, match="line 2: has no id; every line needs one"):
            load_samples(write(tmp_path / "a.jsonl", rows))


def test_items_of_one_run_alone_are_counted_with_the_first_of_them(tmp_path: Path) -> None:
    """The first by length, then by text: 9 comes before 10."""
    one = load_samples(write(tmp_path / "a.jsonl", [row(i, "1") for i in (1, 2, 10, 9, 100)]))
    two = load_samples(write(tmp_path / "b.jsonl", [row(i, "1") for i in (2, 1, 3)]))
    with pytest.raises(UserError) as error:
        align_items({"one": one, "two": two})
    assert "one has 5 items and two has 3 items" in str(error.value)
    assert "(3 only in one, for example index 9; 1 only in two, for example index 3)" in str(error.value)
    few = load_samples(write(tmp_path / "c.jsonl", [row(i, "1") for i in (1, 2)]))
    with pytest.raises(UserError, match=r"\(1 only in two, for example index 3\)"):
        align_items({"few": few, "two": two})
    assert align_items({}) == {}
