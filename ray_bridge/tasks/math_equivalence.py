"""Decide whether an answer has the value of a gold answer, with math-verify and an exact comparison of numbers.

math-verify (Kydlíček et al. 2025) reads and compares expressions, sets, intervals, equations and matrices. It compares
numbers after rounding to six decimal places, which makes 1/2^99 equal 1/2^98 and 0.0000001 equal 0.0000002;
`numbers_equal` takes the place of that rule. Nothing here is bounded in time: a power tower keeps one C function busy
for ever, so callers go through `ray_bridge.tasks.bounded`.
"""

import logging
from functools import lru_cache
from typing import Any

from math_verify import grader, parse, verify
from sympy import Basic, Float, MatrixBase, MatrixExpr, Rational, zoo

WARM_UP = (r"$\frac{1}{2}$", "0.5")
"""Arguments of a call that loads and compiles what later calls need."""

_APPROXIMATE = Rational(5, 10**6)  # relative: six significant digits, rounded
_DECIMALS = Rational(5, 10**7)  # absolute: six decimal places, rounded
_DIGITS = 40  # digits of a numerical comparison


def equivalent(text: str, gold: str) -> bool:
    """Return whether math-verify reads from `text` the value of `gold`. An answer that is not read never counts.

    Args:
        text: LaTeX between dollar signs, or prose that contains the answer.
        gold: LaTeX without dollar signs.
    """
    expected, answer = _read_gold(gold), parse(text, parsing_timeout=None)
    return bool(expected) and bool(answer) and bool(verify(expected, answer, timeout_seconds=None))


@lru_cache(maxsize=64)
def _read_gold(gold: str) -> list[Any]:
    return parse(f"${gold}$", parsing_timeout=None)


def numbers_equal(a: Any, b: Any, *_: int) -> bool:
    """Return whether two expressions are exactly the same number, or one is the other's decimal if that has no end.

    Such a decimal counts if it agrees to six decimal places and to six significant digits: 0.333333 for 1/3. A
    percentage counts as its number and as a hundredth of it: 12.5 % is 12.5 and 0.125. Matrices are compared entry by
    entry.
    """
    return _compared(a, b) is True


def symbols_equal(a: Any, b: Any) -> bool:
    """Return whether two expressions that are not both numbers are equal by simplification."""
    return _compared(a, b) is None and bool(_SYMBOLIC(a, b))


def _compared(a: Any, b: Any) -> bool | None:
    """Return whether two numbers or matrices of numbers are equal; None if they are something else."""
    try:
        if isinstance(a, _MATRIX) or isinstance(b, _MATRIX):
            a, b = grader.safe_sympy_doit(a), grader.safe_sympy_doit(b)
            if not (isinstance(a, MatrixBase) and isinstance(b, MatrixBase) and a.shape == b.shape):
                return None
            verdicts = [_compared(x, y) for x, y in zip(a.flat(), b.flat(), strict=True)]
        else:
            verdicts = [_equal(x, y) for x in _readings(a) for y in _readings(b)]
            if True in verdicts:
                return True
    except Exception:  # sympy raises many kinds for expressions without a value
        return None
    return None if None in verdicts else all(verdicts)


def _readings(value: Any) -> list[Any]:
    number = grader.get_pct_val(value)
    return [value] if number is None else [number, number / 100]


def _equal(a: Any, b: Any) -> bool | None:
    decimal = isinstance(a, Float) or isinstance(b, Float)
    a, b = _exact(a), _exact(b)
    if not (a.is_number and b.is_number):
        return None
    if a.is_finite is False or b.is_finite is False:  # an infinity is close to no number, and 1/0 is none
        return bool(a == b and a != zoo)
    size = max(abs(a.evalf(_DIGITS)), abs(b.evalf(_DIGITS)))
    gap = abs((a - b).evalf(_DIGITS))
    if not (gap.is_comparable and size.is_comparable):
        return None
    if gap > size / 10**5:  # before exact evaluation, which may not end
        return False
    if decimal and not (_ends(a) and _ends(b)):
        return bool(gap <= _APPROXIMATE * size and gap < _DECIMALS)
    a, b = grader.safe_sympy_doit(a), grader.safe_sympy_doit(b)
    rational = a.is_Rational and b.is_Rational
    return bool(a == b) if rational else bool(gap <= size / 10 ** (_DIGITS - 10))


def _exact(value: Basic) -> Any:
    """Return an expression with each decimal as the fraction that it was written as."""
    return value.xreplace({number: Rational(str(number)) for number in value.atoms(Float)})


def _ends(value: Any) -> bool:
    """Return whether a number is a fraction whose decimal has an end."""
    value = grader.safe_sympy_doit(value)
    if not value.is_Rational:
        return False
    rest = value.q
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return bool(rest == 1)


logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it has no time limit of its own
_MATRIX = (MatrixBase, MatrixExpr)
_SYMBOLIC = grader.sympy_symbolic_eq
grader.sympy_numeric_eq, grader.sympy_symbolic_eq = numbers_equal, symbols_equal
