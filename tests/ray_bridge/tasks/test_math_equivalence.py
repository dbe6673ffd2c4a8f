"""The comparison of MATH's answers in this process: the page's lines, both ways round, and what a text states."""

from pathlib import Path

import pytest

from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.math_equivalence import LONGEST_ANSWER, LONGEST_TEXT, equivalent, stated, verdicts
from tests.ray_bridge.tasks.test_scored_examples import PAGE, lines_of, text_of

BOXED = [
    (number, str(boxed_answer(text_of(cells[0]))), text_of(cells[1]), cells[2].strip() == "right")
    for task, number, cells in lines_of(Path(PAGE))
    if task == "math"
    and boxed_answer(text_of(cells[0]))
    and not any(part in cells[0] for part in ("^{9^", "^{10^", "Question:", "Problem:"))
]
# Which side is gold matters to an equation: its value is asked for, or the equation itself.
ONE_WAY = ("=", "\\in", "<", ">", "\\le")


@pytest.mark.slow  # test_scored_examples checks the page in bounded processes
@pytest.mark.parametrize(("number", "boxed", "gold", "right"), BOXED, ids=[str(line[0]) for line in BOXED])
def test_each_line_of_the_page_holds_in_this_process(number: int, boxed: str, gold: str, right: bool) -> None:
    text = f"so it is $\\boxed{{{boxed}}}$."
    assert verdicts(boxed, text, gold)[0] is right, number
    if not any(sign in boxed + gold for sign in ONE_WAY):
        assert equivalent(gold, boxed) is right, f"{number}, the other way round"


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("The final answer is $7$. I hope it is correct. But $8$.", "7", True),
        ("The final answer is $7$. I hope it is correct. But $8$.", "8", False),
        ("Answer: 7. There are 8 of them.", "7", True),
        ("so \\boxed{7} of 8", "7", True),
        ("first $7$, then $8$", "8", True),
        ("first $7$, then $8$", "7", False),
        ("it is 12.5%", "0.125", True),
        ("it is $12.5$%", "12.5", True),
        ("it is 1/2", "0.5", True),
        ("it is −5", "-5", True),
        ("it is 5⁄6", "\\frac56", True),
        ("$x=7$ as $\\foo{$", "7", True),
        ("it is $5\\text{ cm}$", "5\\text{ m}", False),
        ("it is $1001_2$", "1001", False),
        ("$3$ and $5$", "3,5", True),
        ("nothing", "7", False),
        ("", "7", False),
        ("7" + " " * LONGEST_TEXT, "7", False),
        ("7" + " " * (LONGEST_TEXT - 1), "7", True),
    ],
)
def test_what_a_text_states(text: str, gold: str, right: bool) -> None:
    assert stated(text, gold) is right
    assert verdicts(None, text, gold) == (False, right)


def test_an_answer_that_is_right_needs_no_search() -> None:
    assert verdicts("7", "so \\boxed{7}, or 8", "7") == (True, True)
    assert verdicts("8", "The final answer is $7$. I hope it is correct. \\boxed{8}", "7") == (False, True)


def test_long_answers_only_equal_the_same_text() -> None:
    space = "\\ "
    assert equivalent("1" + space * ((LONGEST_ANSWER - 1) // 2), "1")
    assert equivalent("1" + space * (LONGEST_ANSWER // 2), "1") is False
    assert equivalent("1", "1" + space * (LONGEST_ANSWER // 2)) is False
    assert equivalent("1" * (LONGEST_ANSWER + 1), "1" * (LONGEST_ANSWER + 1))
    assert equivalent("", "") is False
