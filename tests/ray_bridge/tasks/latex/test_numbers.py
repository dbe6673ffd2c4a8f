"""Numbers are compared exactly, and with a decimal only as far as it was written."""

from typing import Any

import pytest
from sympy import Float, I, Integer, Matrix, Rational, Symbol, oo, pi, sqrt, zoo

from ray_bridge.tasks.latex.numbers import numbers_equal, symbols_equal
from ray_bridge.tasks.latex.reading import expression, expressions_equal

THIRD, X = Rational(1, 3), Symbol("x")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Rational(1, 2), Float("0.5"), True),
        (Rational(1, 2), Float("0.50000001"), False),
        (THIRD, Float("0.333333"), True),
        (THIRD, Float("0.33333"), False),
        (THIRD, Rational(333333, 10**6), False),
        (sqrt(2), Float("1.414214"), True),
        (sqrt(2), Float("1.41421"), False),
        (1000 * pi, Float("3141.593"), False),
        (1000 * pi, Float("3141.592654"), True),
        (Rational(1, 7 * 10**6), Float("0.000000"), False),
        (Rational(1, 2**99), Rational(1, 2**98), False),
        (Rational(10**12 + 1, 10**12), Integer(1), False),
        (sqrt(2) * sqrt(8), Integer(4), True),
        (Integer(3), Integer(4), False),
        (oo, oo, True),
        (oo, -oo, False),
        (oo, Integer(5), False),
        (zoo, zoo, False),
        (I, I, True),
        (I, -I, False),
        (Matrix([1, 2]), Matrix([1, 2]), True),
        (Matrix([THIRD, 2]), Matrix([Float("0.333333"), 2]), True),
        (Matrix([1, 2]), Matrix([1, 3]), False),
        (Matrix([1, 2]), Matrix([3, 2]), False),
    ],
)
def test_two_numbers(one: Any, other: Any, same: bool) -> None:
    assert numbers_equal(one, other) is same
    assert numbers_equal(other, one) is same
    assert not symbols_equal(one, other), "which is for what is no number"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (X, X, True),
        (X, Integer(1), False),
        (X + 1, 1 + X, True),
        (Matrix([1, X]), Matrix([1, X]), True),
        (Matrix([1, X]), Matrix([1, X + 1]), False),
        (Matrix([1, 2]), Matrix([[1, 2]]), False),
        (Matrix([1, 2]), Integer(1), False),
    ],
)
def test_what_is_no_number_is_compared_by_simplification(one: Any, other: Any, same: bool) -> None:
    assert not numbers_equal(one, other)
    assert symbols_equal(one, other) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (r"50\%", "0.5", True),
        (r"50\%", r"\frac{1}{2}", True),
        (r"50\%", "50", True),
        (r"50\%", r"50\%", True),
        (r"50\%", r"0.5\%", False),
        (r"50\%", "0.005", False),
        (r"12.5\%", "0.125", True),
        (r"2\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\4\end{pmatrix}", True),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}", False),
        ("x+1", "1+x", True),
        ("x", "y", False),
        ("x", "5", False),
    ],
)
def test_a_percentage_is_its_number_and_a_hundredth_of_it(one: str, other: str, same: bool) -> None:
    first, second = expression(one), expression(other)
    assert first is not None
    assert second is not None
    assert bool(expressions_equal(first, second)) is same
    assert bool(expressions_equal(second, first)) is same
