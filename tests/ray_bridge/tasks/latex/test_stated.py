"""The values that a text states, likeliest first."""

import pytest

from ray_bridge.tasks.latex.stated import stated_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("it is 5 or 6", ["5, 6"]),
        ("3, 4, or 5.", ["3, 4, 5"]),
        ("so 3, 4.", ["3, 4"]),
        ("In 2020, 5 people came", ["5", "2020"]),
        ("not 6", []),
        ("it is 5, not 6", ["5"]),
        ("it isn't $6$ but $7$", ["7"]),
        ("7_8 is", ["7_8"]),
        ("the point (3, 4).", ["(3, 4)"]),
        ("so (x = 5)", ["(x = 5)"]),
        ("so x = 3/4 (of it)", ["x = 3/4"]),
        ("so f(x) = 2x + 3", ["f(x) = 2x + 3"]),
        ("2\\sqrt{3} \\text{ cm}", ["2\\sqrt{3} \\text{ cm}"]),
        ("sqrt(5)", ["\\sqrt{5}"]),
        ("costs $5 and then $7", ["7", "5"]),
        ("it is $ x = 5 $ ok", [" x = 5 "]),
        ("$$x$$ \\[y\\] \\(z\\)", ["z", "y", "x"]),
        ("COVID-19", ["19"]),
        ("a 3-digit number", ["3"]),
        ("- 5 apples", ["5"]),
        ("**5**", ["5"]),
        ("5</s>", ["5"]),
        ("it is 5!", ["5"]),
        ("it is 5!/3!", ["5!/3!"]),
        ("(a) 5", ["5"]),
        ("5 6", ["6", "5"]),
        ("2 1/2", ["2 1/2"]),
        ("1 000", ["1 000"]),
        ("is 5 cm", ["5\\text{ cm}"]),
        ("is $5$ cm", ["5\\text{ cm}"]),
        ("5 in all", ["5"]),
        ("5 million", ["5\\text{ million}"]),
        ("5 and a half", ["5\\text{ and a half}"]),
        ("12.5 percent", ["12.5\\%"]),
        ("at 5:30", ["5:30"]),
        ("Step 2: it is 7", ["7", "2"]),
        ("the answer to question 3 is 7, of 8", ["7", "8", "7", "3"]),
        ("The final answer is 7. I hope. 8", ["7", "7", "8", "7"]),
        ("so $x=1$ and \\boxed{7}, \\boxed{8} of 9", ["7,8", "9", "x=1, \\boxed{7}, \\boxed{8}"]),
        ("x is small", []),
        ("", []),
    ],
)
def test_the_values_that_a_text_states(text: str, values: list[str]) -> None:
    assert [value.written for value in stated_values(text)] == values


def test_only_the_last_box_is_a_box() -> None:
    assert [value.boxed for value in stated_values("final answer: 6, \\boxed{7}, $8$")][:3] == [False, True, False]
