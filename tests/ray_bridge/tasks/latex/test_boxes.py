"""The boxed answer of a text."""

import pytest

from ray_bridge.tasks.latex.boxes import boxed_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{7} is it, \boxed{8}.", "8"),
        (r"\fbox{a}", "a"),
        (r"\boxed 7", "7"),
        (r"\boxed7.", "7"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed{a{b}c}", "a{b}c"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"}\boxed{5}", "5"),
        (r"\boxed \frac12", r"\frac12"),
        (r"\boxed{}", ""),
        (r"\boxed{3}, \boxed{5}", "3,5"),
        (r"\boxed{3} and \boxed{5}", "3,5"),
        (r"\boxed{3} \text{ or } \boxed{5}", "3,5"),
        (r"$\boxed{3}$; $\boxed{5}$", "3,5"),
        (r"\boxed{3}, \boxed{5}, and \boxed{7}", "3,5,7"),
        (r"\boxed{3}, \boxed{3}", "3"),
        (r"\boxed{1} or rather \boxed{2}", "2"),
        (r"\boxed{1} \boxed{2}, \boxed{3}", "2,3"),
        (r"\boxed{1}\boxed{a", None),
        (r"\boxed{a, \boxed{5}", "5"),
        (r"\boxed", None),
        (r"\boxedx{5}", None),
        ("7", None),
        ("", None),
    ],
)
def test_the_last_box_or_the_last_ones_that_are_one_answer(text: str, answer: str | None) -> None:
    assert boxed_answer(text) == answer
