"""Letters in one notation, and what a text says of each; docs/scored_examples.md has the verdicts."""

from ray_bridge.tasks.letters import leading_letter, plain
from ray_bridge.tasks.settled import settled, with_stated_letters, without_choice_texts

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
    assert settled("The answer is A. The answer is B or C.", CHOICES).letter is None
    unclear = settled("The answer is unclear.", CHOICES)
    assert unclear.letter is None
    assert unclear.says_nothing


def test_an_answer_that_is_taken_back_is_none_and_what_follows_is_handed_on() -> None:
    taken_back = settled("The answer is A. No, Mercury", CHOICES)
    assert taken_back.letter is None
    assert taken_back.taken_back == ", Mercury"
    assert settled("The answer is A. No, C is hot. C", CHOICES).letter == "C"


def test_a_letter_that_is_called_wrong_later_is_no_answer() -> None:
    assert settled("The answer is A. But A is not correct.", CHOICES).letter is None
    assert settled("A is not correct. The answer is A.", CHOICES).letter == "A"
    assert settled("The answer is A. A is not hot.", CHOICES).letter == "A"


def test_the_text_of_a_choice_says_nothing_of_other_letters() -> None:
    assert without_choice_texts("A: Venus, not (B) Vitamin B. C Venus", CHOICES) == "A:, not (B). C Venus"
    assert settled(without_choice_texts("The answer is B. Vitamin B", CHOICES), CHOICES).letter == "B"


def test_an_answer_by_its_text_states_the_letter_of_that_choice() -> None:
    texts = {
        "The answer is Mercury.": "The answer is C.",
        "Answer: the Mercury\nSo": "Answer: C\nSo",
        "The answer is Mercury or Venus.": "The answer is Mercury or Venus.",
        "The answer is not Mercury.": "The answer is not Mercury.",
        "Mercury": "Mercury",
    }
    assert {text: with_stated_letters(text, CHOICES) for text in texts} == texts
    assert with_stated_letters("The answer is AB.", ("B", "A", "AB")) == "The answer is C."
    assert with_stated_letters("The answer is B.", ("B", "A", "AB")) == "The answer is B."
