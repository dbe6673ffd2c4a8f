"""Read a text as a mathematical expression with math-verify's parser, and compare two of them with its grader."""

import logging
import re
from functools import lru_cache
from typing import Any

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
from math_verify import grader, verify
from sympy import Eq, I, Pow, Symbol, false, simplify, true

from ray_bridge.tasks.latex.numbers import numbers_equal, symbols_equal

# What the parser drops: a subscript of a number, dots, a transposition, a space between two numbers, which it adds, and
# all that follows text or degrees between two numbers.
_DROPPED = re.compile(
    r"(?<!log)[\d}]\s?_|\\[lcd]?dots(?![a-zA-Z])|\.\.\.|\\text\s?\{[^{}]*\}[^\d]{0,20}\d|\\circ\W{0,5}\d"
    r"|(?<![\w.])(?<!frac )(?<!binom )\d+(?:\.\d+)?(?:\s|\\[ ,;:!]|~)+\d"
    r"|\^\s?\{?\s?(?:T(?![a-zA-Z])|\\(?:top|intercal|dagger|ast)|\*)"
)
_IMAGINARY = re.compile(r"(?<![a-zA-Z\\])i(?![a-zA-Z])")
_ODD_ROOT = re.compile(r"\\sqrt\s?\[\s?\d{0,2}[13579]\s?\]")
_NORMAL = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")


@lru_cache(maxsize=128)
def expression(latex: str, *, real: bool = False) -> Any:
    r"""Return the expression that a text is as a whole, or None if it cannot be read.

    Args:
        latex: in standard notation (`notation.standard`).
        real: whether variables are real numbers.
    """
    config = ConversionConfig(lowercase_symbols=False)
    try:
        normal = normalize_latex(latex, config=_NORMAL)
        value = latex2sympy(
            normal, is_real=real, convert_degrees=False, normalization_config=None, conversion_config=config
        )
        units = {symbol: I for symbol in value.free_symbols if symbol.name == "i"}
        value = value.xreplace(units) if units else value
        return value.replace(_is_odd_root, _real_root) if _ODD_ROOT.search(latex) else value
    except Exception:  # the parser raises many kinds for what it cannot read
        return None


def _is_odd_root(value: Any) -> bool:
    return (
        isinstance(value, Pow)
        and value.exp.is_Rational
        and value.exp.q > 1
        and value.exp.q % 2 == 1
        and bool(value.base.is_number and value.base.is_negative)
    )


def _real_root(power: Pow) -> Any:
    """Return the real odd root of a negative number: MATH's cube root of -8 is -2, and sympy's is complex."""
    return (-1) ** power.exp.p * (-power.base) ** power.exp


def is_complex(latex: str) -> bool:
    """Return whether a text may be about complex numbers: it has the imaginary unit, or a matrix."""
    return bool(_IMAGINARY.search(latex)) or bool(grader.should_treat_as_complex(latex))


def drops(latex: str) -> bool:
    """Return whether the parser would read less than is written: such a text equals only the same text."""
    return bool(_DROPPED.search(latex))


def expressions_equal(given: Any, gold: Any) -> bool:
    """Return whether two expressions are equal; math-verify compares a lone variable with anything as text.

    Two equations without a real solution are equal for it, whatever they are; here they have to be multiples.
    """
    if isinstance(given, Eq) and isinstance(gold, Eq) and (_is_decided(given) or _is_decided(gold)):
        return _are_multiples(given, gold)
    if verify([gold], [given], allow_set_relation_comp=True, timeout_seconds=None):
        return True
    return any(isinstance(one, Symbol) for one in (given, gold)) and symbols_equal(gold, given)


def _is_decided(equation: Eq) -> bool:
    """Return whether an equation is true or false whatever its variables are."""
    try:
        return simplify(equation) in (true, false)
    except Exception:  # sympy raises many kinds for expressions without a value
        return False


def _are_multiples(given: Eq, gold: Eq) -> bool:
    one, other = given.lhs - given.rhs, gold.lhs - gold.rhs
    if not (one.free_symbols and other.free_symbols):
        return bool(given.lhs == gold.lhs and given.rhs == gold.rhs)
    ratio = simplify(one / other)
    return bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)


logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it has no time limit of its own
grader.sympy_numeric_eq, grader.sympy_symbolic_eq = numbers_equal, symbols_equal
