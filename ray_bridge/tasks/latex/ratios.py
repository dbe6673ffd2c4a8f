r"""Ratios and times of the day: `2:4` is `1:2` and 1/2, but `5:30` is a time, and no ratio.

Hours and two digits of minutes are a time if minutes begin with 0, if a.m. or p.m. follows, or if they are no ratio in
lowest terms. A time equals only the same time.
"""

import re
from dataclasses import dataclass
from math import gcd

from sympy import Expr

from ray_bridge.tasks.latex.reading import expression, expressions_equal

_TIME = re.compile(
    r"(?P<hours>\d{1,2})(?:\s?:\s?(?P<minutes>[0-5]\d))?"
    r"(?:(?:\\ |~|\s)*(?:\\text\s?\{\s*)?(?P<half>[aApP])\.?\s?[mM]\.?\s?\}?)?\.?"
)
_COLON = re.compile(r"\\colon(?![a-zA-Z])|:")
_NO_TERM = re.compile(r"[=<>|]|\\(?:in|to|mid|le|ge|leq|geq|ne|neq|mathbb|text)(?![a-zA-Z])")


@dataclass(frozen=True, kw_only=True)
class _Time:
    hours: int
    minutes: int
    half: str
    certain: bool


def same_ratio(given: str, gold: str) -> bool | None:
    """Return whether two ratios, a ratio and a fraction, or two times are equal; None if neither is one of these."""
    times = _time(given), _time(gold)
    if any(time is not None and time.certain for time in times):
        a, b = times
        if a is None or b is None:
            return False
        return (a.hours, a.minutes) == (b.hours, b.minutes) and (a.half == b.half or not (a.half and b.half))
    one, other = _terms(given), _terms(gold)
    if one is None or other is None or len(one) == len(other) == 1:
        return None
    if 1 in (len(one), len(other)):  # a fraction
        one, other = ([*terms, "1"] if len(terms) == 1 else terms for terms in (one, other))
    if len(one) != len(other):
        return False
    left, right = ([expression(term) for term in terms] for terms in (one, other))
    if not all(isinstance(term, Expr) for term in (*left, *right)):
        return False
    return all(expressions_equal(x * right[0], y * left[0]) for x, y in zip(left[1:], right[1:], strict=True))


def _terms(text: str) -> list[str] | None:
    """Return the terms of a ratio, one for a text without a colon, None for what a colon may mean otherwise."""
    terms = [term.strip() for term in _COLON.split(text)]
    return None if len(terms) > 1 and (_NO_TERM.search(text) or not all(terms)) else terms


def _time(text: str) -> _Time | None:
    match = _TIME.fullmatch(text)
    if match is None or (match["minutes"] is None and match["half"] is None):
        return None
    hours, minutes = int(match["hours"]), int(match["minutes"] or 0)
    certain = bool(match["half"]) or match["minutes"].startswith("0") or gcd(hours, minutes) > 1
    return _Time(hours=hours, minutes=minutes, half=(match["half"] or "").lower(), certain=hours <= 24 and certain)
