"""Compare numbers exactly, where math-verify rounds them to six decimal places: 1/2^99 is not 1/2^98."""

from itertools import product
from typing import Any

from math_verify import grader
from sympy import Basic, Expr, Float, MatrixBase, MatrixExpr, Rational, floor, log, zoo

_SIGNIFICANT = 6  # digits to which a decimal has to agree, rounded
_DECIMALS = Rational(5, 10**7)  # absolute: six decimal places, rounded
_DIGITS = 40  # digits of a first numerical comparison
_MOST_DIGITS = 2_000  # to which a difference is evaluated before it counts as zero
_MATRIX = (MatrixBase, MatrixExpr)
_SYMBOLIC = grader.sympy_symbolic_eq


def numbers_equal(a: Any, b: Any, *_: int) -> bool:
    """Return whether two expressions are exactly the same number, or one is the other's decimal if that has no end.

    Such a decimal counts if it agrees to six decimal places and to six significant digits: 0.333333 for 1/3. A
    percentage counts as its number and as a hundredth of it: 12.5 % is 12.5 and 0.125. Matrices are compared entry by
    entry.
    """
    return _compared(a, b) is True


def symbols_equal(a: Any, b: Any) -> bool:
    """Return whether two expressions that are not both numbers are equal by simplification."""
    if _compared(a, b) is not None:
        return False
    return bool(_SYMBOLIC(*(_exact(one) if isinstance(one, Expr) else one for one in (a, b))))


def _compared(a: Any, b: Any) -> bool | None:
    """Return whether two numbers or matrices of numbers are equal; None if they are something else."""
    try:
        if isinstance(a, _MATRIX) or isinstance(b, _MATRIX):
            a, b = grader.safe_sympy_doit(a), grader.safe_sympy_doit(b)
            if not (isinstance(a, MatrixBase) and isinstance(b, MatrixBase) and a.shape == b.shape):
                return None
            verdicts = [_compared(x, y) for x, y in zip(a.flat(), b.flat(), strict=True)]
        else:
            readings = _readings(a), _readings(b)
            both = len(readings[0]) == len(readings[1]) == 2  # 50 % is not 0.5 %
            pairs = zip(*readings, strict=True) if both else product(*readings)
            verdicts = [_equal(x, y) for x, y in pairs]
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
    smaller, size = sorted((abs(a.evalf(_DIGITS)), abs(b.evalf(_DIGITS))))
    gap = abs((a - b).evalf(_DIGITS))
    if not gap.is_comparable:  # sympy sees no digit of the difference: it is zero, or one of something else
        gap = abs(a.evalf(_DIGITS) - b.evalf(_DIGITS))
    if not (gap.is_comparable and size.is_comparable):
        return None
    if gap > size / 10**5:  # before exact evaluation, which may not end
        return False
    if decimal and not (_ends(a) and _ends(b)):
        return _is_rounding_error(gap, smaller)
    a, b = grader.safe_sympy_doit(a), grader.safe_sympy_doit(b)
    return bool(a == b) if a.is_Rational and b.is_Rational else _is_zero(a - b, size)


def _is_rounding_error(gap: Any, size: Any) -> bool:
    """Return whether a gap vanishes if a number of this size is rounded to six places and six significant digits."""
    if not size:
        return False
    last_digit = Rational(10) ** (int(floor(log(size, 10).evalf(_DIGITS))) - _SIGNIFICANT + 1)
    return bool(gap <= last_digit / 2 and gap < _DECIMALS)


def _is_zero(difference: Any, size: Any) -> bool:
    """Return whether a difference of two numbers has no digit but zeros, evaluated to more digits than they can hide.

    Equal terms cancel before any evaluation, so a large one, as in 2^99 + sqrt(2), hides no small one.

    Args:
        difference: of two numbers that may be complex.
        size: the larger one's absolute value.
    """
    magnitude = int(abs(log(size, 10).evalf(15))) if size else 0
    value = difference.evalf(15, maxn=min(_MOST_DIGITS, 100 + 3 * magnitude))
    return not any(part.is_comparable and part != 0 for part in value.as_real_imag())


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
