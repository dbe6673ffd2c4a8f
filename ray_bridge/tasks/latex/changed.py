"""Find the words beside a value of a text that make another value of it: "twice 5", "5 out of 6", "at least 5"."""

import re

from ray_bridge.tasks.latex.units import unit_name

_REACH = 50  # characters before and after a value that are searched
_LONGEST_UNIT = 16
_OPEN = r"[\s*_$(\"\\]{0,4}"
_OPERATOR = (
    r"(?:times|plus|minus|over|divided\sby|multiplied\sby|out\sof|to|through|(?:less|more|fewer)\sthan|choose|mod)"
)
_BEFORE = re.compile(
    r"(?:\b(?:at\s(?:least|most)|(?:more|less|fewer|greater|larger|bigger|smaller|higher|lower|other)\sthan|up\sto"
    r"|between|twice|thrice|double|triple|half(?:\sof)?|(?:third|quarter|fourth|fifth|tenth|percent|multiples?)\sof"
    r"|over|under|above|below|exceeds|(?:square|cube)\s(?:root\s)?of|log(?:arithm)?\sof)"
    rf"|[\d)}}$]\s{_OPERATOR}){_OPEN}$",
    re.IGNORECASE,
)
_AFTER = re.compile(rf"[\s*_$)\"\\]{{0,4}}(?<=[\s*_$)]){_OPERATOR}\s{_OPEN}(?:[-\d\\]|(?-i:[b-z])\b)", re.IGNORECASE)
_NEGATIVE = re.compile(rf"(?<![\d)}}$]\s)(?<!\w)(?:negative|minus)\s{_OPEN}$", re.IGNORECASE)
_UNIT_BEFORE = re.compile(rf"\d\s?(?P<unit>[a-zA-Z]{{1,12}})\s{_OPEN}$")
_UNIT_AFTER = re.compile(r"\d\s?(?P<unit>[a-zA-Z]{1,12})\s\d")


def is_changed(text: str, start: int, end: int) -> bool:
    """Return whether words beside the value from `start` to `end` make another value of it."""
    before, after = text[max(0, start - _REACH) : start], text[end : end + _REACH]
    if _BEFORE.search(before) or _AFTER.match(after):
        return True
    units = (_UNIT_BEFORE.search(before), _UNIT_AFTER.search(text, start, end + _LONGEST_UNIT))  # 5 feet 6 inches
    return any(match is not None and _divides(match["unit"]) for match in units)


def is_negative(text: str, start: int) -> bool:
    """Return whether the word "negative" or "minus" stands before a value, and no number before that."""
    return bool(_NEGATIVE.search(text[max(0, start - _REACH) : start]))


def _divides(word: str) -> bool:
    """Return whether a word is a unit beside which another number belongs to the same quantity; "in" is a word, too."""
    return unit_name(word) is not None and word.lower() not in ("in", "am", "a", "s", "m", "day", "second")
