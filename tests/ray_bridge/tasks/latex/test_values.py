"""Single values: what they are assigned to, their base, names, units, and what the parser would drop."""

import pytest

from ray_bridge.tasks.latex.reading import drops, expression, is_complex
from ray_bridge.tasks.latex.values import same_text, same_value


@pytest.mark.parametrize(
    ("given", "gold", "same"),
    [
        ("x=5", "5", True),
        ("f(2) = 5", "5", True),
        ("x_1=5", "5", True),
        (r"\text{Area}=5", "5", True),
        ("x^2=5", "5", False),
        ("6=5", "5", False),
        ("x=5", "y=5", False),
        (r"\sqrt{25}=6", "6", False),
        (r"\pi=5", "5", False),
        (r"\ln(x)=2", "2", False),
        (r"\vec v=5", "5", True),
        (r"\sqrt{13} \approx 3.606", r"\sqrt{13}", True),
        (r"\sqrt{x} \approx 5", "5", False),
        ("1001_2", "1001_{2}", True),
        ("1001_2", r"1001_{\text{two}}", True),
        ("012_3", "12_3", True),
        ("1001_2", "1001_3", False),
        ("1001_2", "1011_2", False),
        ("1001_2", "1001", False),
        ("10_{10}", "10", True),
        ("AB", "BA", True),
        ("Evelyn", "evelyn", True),
        (r"\text{Evelyn}", "Evelyn", True),
        (r"\text{(B)}", "B", True),
        (r"\text{AB}", "BA", False),
        ("east", "West", False),
        ("5m", "5", True),
        ("5m", "5n", False),
        ("5m", "m", False),
        (r"5\text{ cm}", "5", True),
        (r"5\text{ cm}", r"5\text{ centimeters}", True),
        (r"5\text{ cm}", r"5\text{ m}", False),
        (r"5\text{ cm}", r"6\text{ cm}", False),
        ("X+Y", "x+y", False),
        ("x+y+z", "X+Y+Z", False),
        ("X+x", "2x", False),
        ("x + y", "y+x", True),
        ("f'", "f", False),
        ("f'(x)", "f'(x)", True),
        ("3...5", "3...5", True),
        ("3...5", "3...6", False),
        ("2i", "-2i", False),
        ("", "", False),
    ],
)
def test_two_values(given: str, gold: str, same: bool) -> None:
    assert same_value(given, gold) is same
    assert same_value(gold, given) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("x + 1", "x+1", True), ("a b", "ab", False), ("2 a", "2 a", True), ("", "", False), ("a", "b", False)],
)
def test_texts_are_equal_but_for_spaces_that_say_nothing(one: str, other: str, same: bool) -> None:
    assert same_text(one, other) is same


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        *((text, True) for text in ("3_2", "{5}_7", r"1,\ldots,5", "1...5", r"5\text{ a } 3", r"90\circ 5")),
        *((text, False) for text in ("5", "x_2", r"\log_2 3", r"5\text{ cm}", r"90^\circ")),
    ],
)
def test_what_the_parser_would_drop_is_known(text: str, dropped: bool) -> None:
    assert drops(text) is dropped


def test_i_is_the_imaginary_unit_and_a_part_of_words() -> None:
    assert all(is_complex(text) for text in ("i", "3i", r"\pi i", "e^{i x}", "2+i", r"\imath", r"\det A"))
    assert not any(is_complex(text) for text in ("1", "x", "pi", r"\pi", "sin", "in"))
    squared = expression("i^2")
    assert squared is not None
    assert squared.simplify() == -1


def test_what_cannot_be_read_is_none() -> None:
    assert expression(r"\frac{") is None
    assert expression("5") == 5
    assert str(expression("X")) == "X"  # a capital letter is another variable than the small one
    assert expression("x", real=True).is_real
    assert not expression("x").is_real
