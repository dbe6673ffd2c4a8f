"""Scoring of GSM8K-format answers: `#### number` strictly, the last number leniently.

After the rules of GSM8K's own grader (Cobbe et al. 2021) and the two scores of lm-evaluation-harness, on numbers
compared as numbers: `18.`, `$18`, `18.0`, `1,000` and `####18` count.
"""

import re
from decimal import Decimal, InvalidOperation

from ray_bridge.tasks.task import Score

_NUMBER = r"-?\$?-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_STRICT = re.compile(rf"####\s*({_NUMBER})")
_ANY = re.compile(_NUMBER)


def normalise_number(text: str | None) -> str | None:
    """A number's one written form ("1,000.0" -> "1000"), or None where the text is no number."""
    if text is None:
        return None
    cleaned = text.strip().replace("$", "").replace(",", "").rstrip(".")
    try:
        value = Decimal(cleaned)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    return f"{value.normalize():f}" if value else "0"


def strict_answer(text: str) -> str | None:
    """The number behind the first `####`, or None."""
    found = _STRICT.search(text)
    return normalise_number(found.group(1)) if found else None


def last_number(text: str) -> str | None:
    """The last number of a text, or None."""
    found = _ANY.findall(text)
    return normalise_number(found[-1]) if found else None


def cut(text: str, stops: tuple[str, ...]) -> str:
    """The text before the first of `stops`."""
    return text[: min((at for at in map(text.find, stops) if at >= 0), default=len(text))]


def score_number(text: str, gold: str) -> Score:
    """Score an output against a numeric gold answer. Nothing against nothing is never correct."""
    expected = normalise_number(gold)
    strict, flexible = strict_answer(text), last_number(text)
    return Score(
        answer=strict,
        correct=strict is not None and strict == expected,
        flexible=flexible is not None and flexible == expected,
        valid=strict is not None,
    )
