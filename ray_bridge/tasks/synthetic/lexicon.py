"""The number words of the synthetic task, which the source model knows and the target model has never seen.

Three languages name the same values, so a source that represents values alike in all languages can convey a word that
the bridge was never trained on. The words withheld from the bridge's training split (*transfer* words) are chosen by
stem: in each language two digits are withheld with every word built on them (English 4 and 7: four, fourteen, forty,
forty-six, twenty-seven, fourfold, a quarter ...). A withheld word therefore cannot be put together from pieces that the
bridge has seen, while its value occurs in training through the other two languages. Spelling is ASCII.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

Kind = Literal["cardinal", "dozen", "multiplier", "fraction", "duration"]
Language = Literal["english", "german", "italian"]

WITHHELD_DIGITS: dict[Language, frozenset[int]] = {
    "english": frozenset({4, 7}),
    "german": frozenset({2, 9}),
    "italian": frozenset({3, 8}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One number word or phrase.

    Attributes:
        text: the words as a question has them, without the noun ("a dozen", "dreifach").
        value: a count, a factor, a divisor (fractions) or a number of days (durations).
        kind: sort of phrase, which decides the slots that it fits.
        language: the language of its stems.
        transfer: whether it holds a withheld stem, so that the bridge is never trained on it.
    """

    text: str
    value: int
    kind: Kind
    language: Language
    transfer: bool


def _words(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(separator))


_UNITS: dict[Language, tuple[str, ...]] = {
    "english": ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "german": ("", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"),
    "italian": ("", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove"),
}
_TEENS: dict[Language, tuple[str, ...]] = {
    "english": _words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"),
    "german": _words("zehn elf zwoelf dreizehn vierzehn fuenfzehn sechzehn siebzehn achtzehn neunzehn"),
    "italian": _words("dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove"),
}
_TENS: dict[Language, tuple[str, ...]] = {
    "english": ("", "", *_words("twenty thirty forty fifty sixty seventy eighty ninety")),
    "german": ("", "", *_words("zwanzig dreissig vierzig fuenfzig sechzig siebzig achtzig neunzig")),
    "italian": ("", "", *_words("venti trenta quaranta cinquanta sessanta settanta ottanta novanta")),
}
LANGUAGES: tuple[Language, ...] = ("english", "german", "italian")

_FRACTIONS: dict[Language, tuple[str, ...]] = {
    "english": _words("half,a third,a quarter,a fifth,a sixth,a seventh,an eighth,a ninth,a tenth", ","),
    "german": _words(
        "ein halb,ein drittel,ein viertel,ein fuenftel,ein sechstel,ein siebtel,ein achtel,ein neuntel,ein zehntel", ","
    ),
    "italian": _words("la meta,un terzo,un quarto,un quinto,un sesto,un settimo,un ottavo,un nono,un decimo", ","),
}
_DOZENS: dict[Language, tuple[str, str, str]] = {  # a half, one, and the plural noun
    "english": ("half a dozen", "a dozen", "dozen"),
    "german": ("ein halbes dutzend", "ein dutzend", "dutzend"),
    "italian": ("mezza dozzina", "una dozzina", "dozzine"),
}
_WEEKS: dict[Language, tuple[str, str]] = {
    "english": ("a week", "weeks"),
    "german": ("eine woche", "wochen"),
    "italian": ("una settimana", "settimane"),
}


def cardinal(value: int, language: Language) -> str:
    """Return the cardinal of 1 to 99 in a language.

    Raises:
        ValueError: if the value is outside 1..99.
    """
    if not 1 <= value <= 99:
        raise ValueError(f"no cardinal for {value}: the lexicon holds 1 to 99")
    tens, unit = divmod(value, 10)
    if tens == 0:
        return _UNITS[language][unit]
    if tens == 1:
        return _TEENS[language][unit]
    if unit == 0:
        return _TENS[language][tens]
    if language == "english":
        return f"{_TENS[language][tens]}-{_UNITS[language][unit]}"
    if language == "german":
        return ("ein" if unit == 1 else _UNITS[language][unit]) + "und" + _TENS[language][tens]
    # Italian drops the vowel of the ten before uno and otto: ventuno, trentotto.
    stem = _TENS[language][tens][:-1] if unit in (1, 8) else _TENS[language][tens]
    return stem + _UNITS[language][unit]


def _digits(value: int) -> frozenset[int]:
    """Return the digits on whose stems a cardinal is built; ten and eleven have stems of their own."""
    if value in (10, 11):
        return frozenset()
    return frozenset({value // 10, value % 10} - {0, 1}) if value > 19 else frozenset({value % 10})


def _family(language: Language) -> list[Entry]:
    withheld = WITHHELD_DIGITS[language]

    def entry(text: str, value: int, kind: Kind, digits: frozenset[int]) -> Entry:
        return Entry(text=text, value=value, kind=kind, language=language, transfer=bool(digits & withheld))

    # Twelve, zwoelf and dodici count as words on the stem of 2, to be on the safe side.
    entries = [entry(cardinal(v, language), v, "cardinal", _digits(v)) for v in range(1, 100)]
    half, one, plural = _DOZENS[language]
    entries += [entry(half, 6, "dozen", frozenset()), entry(one, 12, "dozen", frozenset())]
    entries += [entry(f"{_UNITS[language][k]} {plural}", 12 * k, "dozen", frozenset({k})) for k in range(2, 9)]
    for k in range(2, 10):
        unit = _UNITS[language][k]
        text = {"english": {2: "twice", 3: "thrice"}.get(k, unit + "fold"), "german": unit + "fach"}.get(
            language, unit + " volte"
        )
        entries.append(entry(text, k, "multiplier", frozenset({k})))
    entries += [entry(t, k, "fraction", frozenset({k})) for k, t in enumerate(_FRACTIONS[language], start=2)]
    one_week, weeks = _WEEKS[language]
    entries.append(entry(one_week, 7, "duration", frozenset()))
    entries += [entry(f"{_UNITS[language][k]} {weeks}", 7 * k, "duration", frozenset({k})) for k in range(2, 10)]
    if language == "english":
        # Fortnight begins like forty, so it belongs to the withheld stem of 4.
        entries += [
            entry("a fortnight", 14, "duration", frozenset({4})),
            entry("a weekend", 2, "duration", frozenset()),
        ]
    return entries


@cache
def lexicon() -> tuple[Entry, ...]:
    """Return every entry, in a fixed order."""
    return tuple(e for language in LANGUAGES for e in _family(language))


@cache
def vocabulary() -> frozenset[str]:
    """Return every single word of the entries, split at spaces and hyphens."""
    return frozenset(w for e in lexicon() for w in e.text.replace("-", " ").split())


@cache
def stems() -> tuple[str, ...]:
    """Return the strings that compounds are built from, longest first."""
    strings = {s for table in (_UNITS, _TEENS, _TENS) for words in table.values() for s in words if s}
    strings |= {s[:-1] for s in _TENS["italian"] if s}
    strings |= {"und", "fold", "fach", "volte"}
    strings |= {
        w for e in lexicon() if e.kind in ("dozen", "fraction", "duration") for w in e.text.split() if len(w) > 3
    }
    return tuple(sorted(strings, key=lambda s: (-len(s), s)))
