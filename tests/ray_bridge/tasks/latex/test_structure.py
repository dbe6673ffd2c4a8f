"""What kind of answer a text is."""

import pytest

from ray_bridge.tasks.latex.structure import answer


def shown(text: str) -> str:
    """The shape of an answer with the texts of its items."""
    one = answer(text)
    items = " | ".join(item.text for item in one.items)
    return f"{one.shape}{one.brackets} {items or one.text}"


@pytest.mark.parametrize(
    ("text", "structure"),
    [
        ("5", "value 5"),
        ("1,000", "value 1000"),
        ("1,000,5", "list 1 | 000 | 5"),
        ("3, 5", "list 3 | 5"),
        ("3;5", "list 3 | 5"),
        ("3 \\text{ and } 5", "list 3 | 5"),
        ("3 or 5", "list 3 | 5"),
        ("1,000, 2,000", "list 1000 | 2000"),
        ("3,", "value 3,"),
        ("\\pm 3", "list 3 | -3"),
        ("1\\pm 2, 7", "list 1+2 | 1-2 | 7"),
        ("1\\mp 2", "list 1-2 | 1+2"),
        ("(3,5)", "bracketed() 3 | 5"),
        ("(3,5]", "bracketed(] 3 | 5"),
        ("[3,5)", "bracketed[) 3 | 5"),
        ("(1,000, 2)", "bracketed() 1000 | 2"),
        ("(100,200)", "bracketed() 100 | 200"),
        ("((3,5))", "bracketed() 3 | 5"),
        ("(3)", "value 3"),
        ("[3]", "value [3]"),
        ("{3,5}", "list 3 | 5"),
        ("\\{3,5\\}", "set 3 | 5"),
        ("\\{3\\}", "set 3"),
        ("\\{ \\}", "set \\{ \\}"),
        ("\\emptyset", "set \\emptyset"),
        ("(1,2),(3,4)", "list (1,2) | (3,4)"),
        ("(1,2)\\cup(3,4)", "value (1,2)\\cup(3,4)"),
        ("(3,5\\}", "value (3,5\\}"),
        ("f(3,5)", "value f(3,5)"),
        ("x\\in(3,5)", "bracketed() 3 | 5"),
        ("x = \\{3,5\\}", "set 3 | 5"),
        ("y=(x+1)(x+2)", "value y=(x+1)(x+2)"),
        ("y=(x+1)", "value y=(x+1)"),
        ("\\text{Area}=5", "value 5"),
        ("\\text{A, B and C}", "list \\text{A} | \\text{B} | \\text{C}"),
        ("\\text{A}", "value \\text{A}"),
        ("\\begin{pmatrix}1,2\\end{pmatrix}", "value \\begin{pmatrix}1,2\\end{pmatrix}"),
        ("", "value "),
    ],
)
def test_the_structure_of_an_answer(text: str, structure: str) -> None:
    assert shown(text) == structure


def test_answers_are_read_four_deep() -> None:
    one = answer("((((((1,2),3),4),5),6),7)")
    depth = 0
    while one.items:
        one, depth = one.items[0], depth + 1
    assert (depth, one.shape, one.text) == (4, "value", "((1,2),3)")
