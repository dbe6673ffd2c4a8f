"""Letters in one notation, and what a text says of each; docs/scored_examples.md has the verdicts."""

from ray_bridge.tasks.letters import last, leading_letter, plain, stated

CHOICES = ("Venus", "Vitamin B", "Mercury")


def test_one_notation_for_letters_brackets_and_marks() -> None:
    written = {
        "（Ｃ）": "(C)",
        "【答案】Ｃ。": "(答案)C.",
        r"\(C\)": "C",
        r"**C**": "C",
        r"$\textbf{\text{(C) }}$12": "(C) 12",
        "_C_": "C",
        "B_1": "B_1",
        "C<｜end▁of▁sentence｜>": "C\n",
    }
    assert {text: plain(text) for text in written} == written


def test_the_letter_at_the_beginning() -> None:
    letters = {
        "C": "C",
        "B. Vitamin B, not C": "B",
        "A Venus": "A",
        "A planet": None,
        "A or C": None,
        "(A) is wrong": None,
        "D": None,
        "c": None,
    }
    assert {text: leading_letter(text, CHOICES) for text in letters} == letters
    assert leading_letter("c", CHOICES, small=True) == "C"


def test_a_statement_of_several_letters_is_none_and_still_the_last() -> None:
    named = last(stated("The answer is A. No, the answer is B or C.", "ABC"))
    assert named is not None
    assert named.letter is None
    assert last(stated("The answer is unclear.", "ABC")) is None
