"""Score numeric answers in GSM8K's format: `#### number` strictly, the last number of the text flexibly.

Follows GSM8K's own grader (Cobbe et al. 2021) and the two filters of lm-evaluation-harness, but compares numbers as
numbers, and accepts a number only as a whole: `#### 1/2` is not 1. docs/scoring.md lists every difference.

All patterns take time linear in the length of the text, and no number is rounded.
"""

import re
import unicodedata
from collections import deque

from ray_bridge.tasks.data.rows import RowError, shown
from ray_bridge.tasks.task import Score

_MINUS = r"\-" "\N{MINUS SIGN}\N{EN DASH}\N{SMALL HYPHEN-MINUS}\N{FULLWIDTH HYPHEN-MINUS}"
_FIXED_SPACES = "\N{NO-BREAK SPACE}\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}"
# Groups of three (1,000,000), India's groups of two before the last three (10,00,000), or none.
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d+)"


def _pattern(spaces: str) -> str:
    """Return the pattern of a number whose groups of three digits may be separated by any of `spaces`."""
    spaced = rf"\d{{1,3}}(?:[{spaces}]\d{{3}})+(?!\d)"
    return (
        rf"(?P<sign>[+{_MINUS}]?)(?:\\?[$€£¥₹](?P<inner>[{_MINUS}]?))?"
        rf"(?P<digits>(?:{spaced}|{_INTEGER})(?:\.\d+)?|(?<!\d)\.\d+)"
        rf"(?:[eE](?P<exponent>[+{_MINUS}]?\d{{1,2}})(?!\d))?"
    )


_WHOLE = re.compile(_pattern(" " + _FIXED_SPACES) + r"\.?")
# Markdown, LaTeX and brackets may stand around the number that follows the mark on its line.
_WRAP = r"(?:\*\*|[*_`'\"(\[{]|\\boxed\s?\{?|\\[(\[]|\\?\$|[^\S\n]){0,12}?"
_STRICT = re.compile(rf"####{_WRAP}{_pattern(' ' + _FIXED_SPACES)}")
# What makes the number before it a part of something else: a further digit, a letter (5x, 3km), an operator, a power.
_CONTINUED = re.compile(
    rf"[.,:]?\d|[A-Za-z(√π²³½¼¾⅓⅔]|\{{,\}}\d|\\[,;:! ]\d|\s?\\(?:[dt]?frac|times|cdot|div|sqrt|pi)"
    rf"|[^\S\n]+\d|[^\S\n]*(?:=|(?:\*\*?|[+/×÷·^x{_MINUS}])[^\S\n]*[\d(.$])"
)
# A sign right after a word, a digit or a closing bracket is a hyphen or an operator: `pages 3-5`, `COVID-19`, `(8)-5`.
_ANY = re.compile(rf"(?:(?<=[\w)\]}}%])[+{_MINUS}])?{_pattern(_FIXED_SPACES)}")


def normalise_number(text: str | None) -> str | None:
    """Return a number's one written form ("1,000.0" gives "1000"), or None if the text is not a number.

    Args:
        text: a number with optional sign, currency, digit groups (1,000 or 1 000), decimals and exponent (5e3).
    """
    match = None if text is None else _WHOLE.fullmatch(text.strip())
    return _written(match) if match else None


def strict_answer(text: str) -> str | None:
    r"""Return the number that follows the first `####` that one follows; None if there is none, or it is only a part.

    The number stands on the line of the mark, at most in Markdown or LaTeX (`**18**`, `\boxed{18}`, `\$18`). It is
    refused if what follows makes it a part of something else: `1/2`, `5x`, `3 + 4 = 7`, `5:30`, `18 19`.
    """
    match = _STRICT.search(text)
    if match is None or _CONTINUED.match(text, match.end()):
        return None
    return _written(match)


def last_number(text: str) -> str | None:
    """Return the last number of a text in its one written form, or None if there is none."""
    last = deque(_ANY.finditer(text), maxlen=1)
    return _written(last[0]) if last else None


def cut(text: str, stops: tuple[str, ...]) -> str:
    """Return the text before the first of `stops`."""
    return text[: min((at for at in map(text.find, stops) if at >= 0), default=len(text))]


def gold_number(text: str) -> str:
    """Return a gold answer, a number or a solution that ends in `#### number`, in the number's one written form.

    Raises:
        RowError: if there is no such number.
    """
    number = normalise_number(text.rpartition("####")[2])
    if number is None:
        raise RowError(
            f"the gold answer is {shown(text.rpartition('####')[2].strip())}; write a plain number, as 1,000"
        )
    return number


def score_number(text: str, gold: str) -> Score:
    """Score an output against a numeric gold answer. An output without a number is never correct."""
    expected = normalise_number(gold)
    strict, flexible = strict_answer(text), last_number(text)
    return Score(
        answer=strict,
        correct=strict is not None and strict == expected,
        flexible=flexible is not None and flexible == expected,
        valid=strict is not None,
    )


def _written(match: re.Match[str]) -> str:
    """Return the one written form of a matched number: ASCII digits, no superfluous zero, point or sign."""
    negative = bool(match["inner"]) or match["sign"] not in ("", "+")
    whole, _, decimals = re.sub(rf"[, {_FIXED_SPACES}]", "", match["digits"]).partition(".")
    digits = "".join(str(unicodedata.decimal(digit)) for digit in whole + decimals)
    point = len(whole)
    if match["exponent"]:
        size = int("".join(str(unicodedata.decimal(c)) for c in match["exponent"] if c.isdecimal()))
        point += -size if match["exponent"][0] in _MINUS else size
    if point <= 0:
        digits, point = "0" * (1 - point) + digits, 1
    digits = digits.ljust(point, "0")
    whole, decimals = digits[:point].lstrip("0") or "0", digits[point:].rstrip("0")
    written = f"{whole}.{decimals}" if decimals else whole
    return f"-{written}" if negative and written != "0" else written
