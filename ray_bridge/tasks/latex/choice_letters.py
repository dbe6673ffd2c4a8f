r"""The letter of a choice before its value, as competitions write it: `\textbf{(B) }12` is choice B with value 12."""

import re
from dataclasses import dataclass

_SPACE = r"(?:\s|\\[ ,;:!]|\\q?quad(?![a-zA-Z])|~)"
_LETTER_ALONE = re.compile(r"(?:\\text\s?\{\s?)?\(?([A-Z])\)?\s?\}?")
_BEFORE_VALUE = re.compile(
    rf"(?:\\text\s?\{{\s?(?:\((?P<text>[A-J])\)[.:]?|(?P<mark>[A-J])[.):])\s?\}}{_SPACE}*+(?![,;]|\\text\s?\{{\s?(?:and|or)\b|and\b|or\b)"
    rf"|\((?P<bare>[A-J])\){_SPACE}++(?![-+*/^_=<>|,;]|\([A-Z]\)|and\b|or\b|\\(?:cup|cap|cdot|times|to|le|ge|in)(?![a-zA-Z])))(?P<value>.+)"
    r"|\\text\s?\{\s?\((?P<whole>[A-J])\)\s?+(?![,;]|and\b|or\b)(?P<inside>[^{}]+)\}",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A choice by its letter, its value, or both.

    Attributes:
        letter: None if there is none before a value.
        value: what follows the letter; None after a letter alone.
    """

    letter: str | None
    value: str | None


def choice(text: str) -> Choice:
    """Return what an answer in standard notation is as a choice: a letter, a value, or a letter with a value."""
    if match := _LETTER_ALONE.fullmatch(text):
        return Choice(letter=match[1], value=None)
    if match := _BEFORE_VALUE.fullmatch(text):
        letter = match["text"] or match["mark"] or match["bare"] or match["whole"]
        return Choice(letter=letter, value=(match["value"] or match["inside"]).strip())
    return Choice(letter=None, value=text)
