r"""The unit of an answer: `5\text{ cm}` is 5, but not `5\text{ m}`."""

import re
from dataclasses import dataclass

_NAMES = {
    "mm": "mm millimeter millimetre",
    "cm": "cm centimeter centimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "in": "in inch inche",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "yr": "yr year",
    "mg": "mg milligram",
    "g": "g gram",
    "kg": "kg kilogram",
    "lb": "lb pound",
    "oz": "oz ounce",
    "ml": "ml mL milliliter millilitre",
    "l": "L liter litre",
    "gal": "gal gallon",
    "$": r"\$ dollar USD",
    "ct": "cent penny pennie",
    "degree": r"^\circ deg degree",
    "degreeC": "degreeC celsius",
    "degreeF": "degreeF fahrenheit",
    "rad": "rad radian",
    "am": "am a.m",
    "pm": "pm p.m",
    "mph": "mph mi/h",
    "km/h": "kmh kph",
}
_UNITS = {name: unit for unit, names in _NAMES.items() for name in names.split()}
_POWERS = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3}
_EXPONENT = r"(?:\s?\^\s?\{?\s?(?P<NAME>[23])\s?\}?)?"
_SPACE = r"(?:\\[ ,;:!]|~|\s){0,3}"
_UNIT = re.compile(
    rf"{_SPACE}(?:\\text\s?\{{\s?(?P<text>[^{{}}]*?){_EXPONENT.replace('NAME', 'inner')}\s?\}}"
    rf"{_EXPONENT.replace('NAME', 'outer')}"
    rf"|(?<=[\d\s}}.])(?P<bare>[a-zA-Z/]{{1,12}}\.?){_EXPONENT.replace('NAME', 'power')}"
    r"|\^\s?(?:\{\s?\\circ\s?\}|\\circ)|\\degree|(?P<currency>\\\$))$"
)
# Words after a value that make another value of it, and so are no unit.
_CHANGING = re.compile(
    r"\b(?:and|or|half|squared|cubed|factorial|below|tens?|dozens?|score|times|double|tenths?|hundredths?)\b"
)
_OTHER_NUMBER = {
    "hundred",
    "thousand",
    "million",
    "billion",
    "trillion",
    "dozen",
    "half",
    "squared",
    "cubed",
    "factorial",
}
_WORDS = re.compile(r"(?<=[\d})])\s(?:[a-z]{3,20}(?:\s|$)){1,4}$")  # `5 apples`
_NO_UNIT = re.compile(r"\d|^\s*[=<>+*^_]")  # `12\text{5 cm}` is 125 cm
_CURRENCY = re.compile(r"(-?)\s?\\\$\s?")


@dataclass(frozen=True, kw_only=True)
class Measured:
    r"""An answer and its unit.

    Attributes:
        value: the answer without its unit.
        unit: the unit's one name, with its power (cm2 for `\text{ cm}^2`); None if there is none, or an unknown one.
    """

    value: str
    unit: str | None


def measured(text: str, *, letters: bool) -> Measured:
    r"""Divide an answer into value and unit. Text after a value, as in `5\text{ apples}`, is an unknown unit.

    Args:
        text: an answer in standard notation.
        letters: whether a letter without `\text`, as in `5m`, is a unit rather than a variable.
    """
    if currency := _CURRENCY.match(text):
        return Measured(value=currency[1] + text[currency.end() :], unit="$")
    match = _UNIT.search(text)
    if match and match["text"] and (_CHANGING.search(match["text"]) or _NO_UNIT.search(match["text"])):
        return Measured(value=text, unit=None)
    value = text[: match.start()].rstrip() if match else ""
    unit = _matched_unit(match, letters) if match and value and not value.endswith(("^", "_", "\\")) else None
    if unit is not None:
        return Measured(value=value, unit=unit or None)
    words = _WORDS.search(text)
    is_unit = words is not None and not _CHANGING.search(words[0])
    return Measured(value=text[: words.start()] if words and is_unit else text, unit=None)


def changes_number(word: str) -> bool:
    """Return whether a word right after a number makes another number of it."""
    return word.lower().removesuffix("s") in _OTHER_NUMBER


def _matched_unit(match: re.Match[str], letters: bool) -> str | None:
    """Return a unit's one name with its power, "" for text that is no known one, None for letters that are none."""
    if match["currency"]:
        return "$"
    written = match["text"] if match["text"] is not None else match["bare"]
    if written is None:
        return "degree"
    power = next((int(n) for n in (match["inner"], match["outer"], match["power"]) if n), 1)
    words = written.split()
    if len(words) == 2 and words[0].lower() in _POWERS:
        power, words = _POWERS[words[0].lower()], words[1:]
    unit = unit_name(" ".join(words))
    if match["bare"] and (unit is None or (len(written) == 1 and not letters)):
        return None
    return "" if unit is None else unit if power == 1 else f"{unit}{power}"


def unit_name(written: str) -> str | None:
    """Return the one name of a unit; None if it is not known."""
    name = written.strip().rstrip(".")
    over, _, under = name.replace(" per ", "/").partition("/")
    if under and (unit := unit_name(over)) and (by := unit_name(under)):
        return _UNITS.get(f"{unit}/{by}", f"{unit}/{by}")
    for form in (name, name.lower(), name.lower().removesuffix("s")):
        if form in _UNITS:
            return _UNITS[form]
    return None
