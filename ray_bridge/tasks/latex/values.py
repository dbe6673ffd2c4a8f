"""Compare two single values: numbers to a base, names and words, quantities with units, and expressions."""

import re

from ray_bridge.tasks.latex.reading import drops, expression, expressions_equal, is_complex
from ray_bridge.tasks.latex.units import measured

_BASE_NAMES = {"two": "2", "three": "3", "eight": "8", "twelve": "12", "sixteen": "16"}
_BASE = re.compile(
    r"(?:\\text\s?\{)?(?P<digits>-?\d[\dA-F ,.]*|-?[A-F][\dA-F ,.]*\d[\dA-F ,.]*)\}?\s?_\s?"
    r"(?:(?P<digit>\d)|\{\s?(?:\\text\s?\{)?\(?\s?(?P<base>\d{1,2}|[a-z]+)\s?\)?\s?\}?\s?\})"
)
_BASE_TEN = re.compile(r"(\d)\s?_\s?\{\s?(?:\(?\s?10\s?\)?|\\text\s?\{\s?ten\s?\})\s?\}")
_NAME = re.compile(r"(?:\\text\s?\{\s?([^{}\\]*)\}|([A-Za-z]+))\.?")
_LETTERS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]+")
_EQUALS = re.compile(r"(?<![<>!=\\])=(?!=)")
# A letter with an index, a function of something, or words: what an answer may be assigned to.
_ASSIGNED = re.compile(r"(?:[A-Za-z]+|\\[a-zA-Z]+\s?(?:\{[^{}]*\})?)(?:\s?_\s?(?:\w|\{[^{}]*\}))?'*(?:\s?\([^()]*\))?")
_PRIME = re.compile(r"(?<=[a-zA-Z)}])'")


def same_text(one: str, other: str) -> bool:
    """Return whether two texts are equal and not empty, but for spaces that say nothing: not between two letters."""
    squeezed = [re.sub(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])", "", text) for text in (one, other)]
    return bool(squeezed[0]) and squeezed[0] == squeezed[1]


def same_value(given: str, gold: str) -> bool:
    """Return whether two texts in standard notation are the same value.

    An equation has the value that it gives to a name: `x=5` is 5, as is `f(2) = 5`; `x^2=5` and `6=5` are not.
    """
    if len(_EQUALS.findall(given)) != len(_EQUALS.findall(gold)):
        sides = [_EQUALS.split(text) for text in (given, gold)]
        if any(len(parts) > 1 and not _ASSIGNED.fullmatch(parts[0].strip()) for parts in sides):
            return False
        given, gold = (parts[-1].strip() for parts in sides)
    given, gold = _BASE_TEN.sub(r"\1", given), _BASE_TEN.sub(r"\1", gold)
    bases = _in_base(given), _in_base(gold)
    if any(bases):
        return bases[0] == bases[1]
    names = _name(given), _name(gold)
    if names[0] and names[1] and (names[0][1] or names[1][1]):
        return names[0][0] == names[1][0]
    a = measured(given, letters=not _LETTERS.search(gold))
    b = measured(gold, letters=not _LETTERS.search(given))
    differ = bool(a.unit and b.unit and a.unit != b.unit)
    return not differ and (same_text(a.value, b.value) or _same_expression(a.value, b.value))


def _same_expression(given: str, gold: str) -> bool:
    primes = len(_PRIME.findall(given)), len(_PRIME.findall(gold))
    if drops(given) or drops(gold) or (primes[0] != primes[1] and "=" not in given + gold):
        return False
    lowercase = not (_both_cases(given) or _both_cases(gold))
    real = not (is_complex(given) or is_complex(gold))
    value, expected = (expression(text, lowercase=lowercase, real=real) for text in (given, gold))
    return value is not None and expected is not None and expressions_equal(value, expected)


def _in_base(text: str) -> tuple[str, str] | None:
    """Return the digits and the base of a number like `1001_2`; None if it is none."""
    match = _BASE.fullmatch(text)
    if match is None:
        return None
    base = match["digit"] or _BASE_NAMES.get(match["base"], match["base"])
    digits = re.sub(r"[ ,]", "", match["digits"]).lstrip("0") or "0"
    return digits, base


def _name(text: str) -> tuple[str, bool] | None:
    r"""Return letters in lower case, and whether they are a word: `\text`, or four and more; None if they are not.

    Fewer letters without `\text` are a product: AB is BA.
    """
    match = _NAME.fullmatch(text)
    if match is None or any(c.isdigit() for c in match[0]):
        return None
    letters = " ".join(re.sub(r"[^\w\s]", " ", match[1] or match[2] or "").lower().split())
    return (letters, match[1] is not None or len(letters) > 3) if letters else None


def _both_cases(text: str) -> bool:
    """Return whether a letter stands in a text as capital and as small letter: they are two variables."""
    letters = set("".join(_LETTERS.findall(text)))
    return any(letter.upper() in letters for letter in letters if letter.islower())
