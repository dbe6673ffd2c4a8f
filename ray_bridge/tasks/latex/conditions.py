"""Find values that only say where, when or why another value holds: "is 5 at x = 2", "since x > 0, x = 5"."""

import re

_BEFORE = 160  # characters before a value that are searched
_REASON_REACH = 50

_CONDITION = re.compile(
    r"\b(?:is|are|equals)\s[^.!?\n]{0,40}?\d[^.!?\n]{0,30}?(?:\b(?:when(?:\sdivided\sby)?|or\s(?:about|approximately|roughly)"
    r"|(?:attained|reached|achieved)\s(?:at|when|for)|(?P<where>at|for|if))\s[\s*_$(\\]{0,4}"
    r"|\b(?:since|because)\s(?:(?!\b(?:so|thus|hence|therefore)\b)[^.!?\n]){0,80})$"
)
_GIVES_A_NAME = re.compile(r"\s?(?:[a-zA-Z]|\\[a-z]{2,8})(?:_\w)?\s?=")
_REASON = re.compile(r"\b(?:since|because|as|given\sthat)\s(?:\w+\s){0,3}[\s*_$(\\]{0,4}$", re.IGNORECASE)


def is_condition(text: str, start: int, written: str) -> bool:
    """Return whether a value that begins at `start` is a condition of or a reason for one before it."""
    match = _CONDITION.search(text[max(0, start - _BEFORE) : start])
    return match is not None and (match["where"] is None or _GIVES_A_NAME.match(written) is not None)


def is_reason(text: str, start: int) -> bool:
    """Return whether a value that begins at `start` is a reason for what follows it, as in "since x > 0, x = 5"."""
    return _REASON.search(text, max(0, start - _REASON_REACH), start) is not None


def is_solved_by(written: str, other: str) -> bool:
    """Return whether a value is an equation that another solves, as in "2x = 34 and x = 17"."""
    return "=" in written and not _GIVES_A_NAME.match(written) and _GIVES_A_NAME.match(other) is not None
