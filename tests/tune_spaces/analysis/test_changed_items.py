"""Items that exactly one of two runs solves, and a fair choice among many."""

from pathlib import Path
from typing import Any

from tests.support.made_samples import bits, write_samples
from tune_spaces.analysis.changed_items import COLUMNS, changed_items, spread
from tune_spaces.analysis.item_alignment import align_items
from tune_spaces.analysis.samples import load_samples


def test_a_changed_item_has_both_answers_and_who_solved_it(tmp_path: Path) -> None:
    one = load_samples(write_samples(tmp_path / "a.jsonl", {"bridged": bits("1100")}))
    two = load_samples(write_samples(tmp_path / "b.jsonl", {"bridged": bits("1010")}))
    gained, lost = changed_items("full", one, "B", two)
    assert gained == {
        "a": "full",
        "b": "B",
        "id": "q1",
        "solved_by": "full",
        "gold": "1",
        "answer_a": "1",
        "answer_b": "no",
        "question": "What is 1?",
        "output_a": "#### 1",
        "output_b": "#### no",
    }
    assert tuple(gained) == COLUMNS
    assert (lost["id"], lost["solved_by"], lost["answer_a"], lost["answer_b"]) == ("q2", "B", "no", "2")


def test_rows_are_read_of_the_item_and_not_of_the_line(tmp_path: Path) -> None:
    """The second file has its items in another order; a file of others may have an index alone and no texts."""
    one = tmp_path / "a.jsonl"
    one.write_text(
        '{"index": 3, "gold": "1", "bridged_answer": "1"}\n{"index": 4, "gold": "1", "bridged_answer": "2"}\n'
    )
    two = tmp_path / "b.jsonl"
    two.write_text(
        '{"index": 4, "gold": "1", "bridged_answer": "1"}\n{"index": 3, "gold": "1", "bridged_answer": "x"}\n'
    )
    runs = align_items({"a": load_samples(one), "b": load_samples(two)})
    rows = changed_items("a", runs["a"], "b", runs["b"])
    assert [(row["id"], row["answer_a"], row["answer_b"]) for row in rows] == [("3", "1", "x"), ("4", "2", "1")]
    assert {(row["question"], row["output_a"], row["output_b"]) for row in rows} == {("", "", "")}


def test_rows_are_chosen_in_turn_from_each_pair_and_direction() -> None:
    def row(b: str, solved_by: str, number: int) -> dict[str, Any]:
        return {"a": "full", "b": b, "solved_by": solved_by, "id": number}

    many = [row("B", "full", i) for i in range(5)] + [row("B", "B", 5)] + [row("C", "full", i) for i in (6, 7)]
    assert [r["id"] for r in spread(many, 5)] == [0, 1, 5, 6, 7]
    assert [r["id"] for r in spread(many, 2)] == [0, 5]
    assert [r["id"] for r in spread(many, 100)] == list(range(8))
    assert spread(many, 0) == []
    assert spread([], 3) == []
