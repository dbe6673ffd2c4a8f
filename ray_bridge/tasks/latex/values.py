"""Compare two single values: numbers to a base, names and words, quantities with units, and expressions."""

import re
from collections.abc import Sequence

from ray_bridge.tasks.latex.ratios import same_ratio
from ray_bridge.tasks.latex.reading import drops, expression, expressions_equal, is_complex
from ray_bridge.tasks.latex.units import measured

_NUMBERS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_BASE_NAMES = {name: str(number) for number, name in enumerate(_NUMBERS, 2)} | {"binary": "2", "hex": "16"}
_BASE = re.compile(
    r"(?:\\text\s?\{|\()?(?P<digits>-?\d[\dA-Fa-f ,.]*|-?[A-Fa-f][\dA-Fa-f ,.]*\d[\dA-Fa-f ,.]*)[})]?\s?_\s?"
    r"(?:(?P<digit>\d)|\{?\s?(?:\\text\s?\{)?\(?\s?(?P<base>\d{1,2}|[a-z]+)\s?\)?\s?\}{0,2}\s?\}?)"
)
_BASE_IN_WORDS = re.compile(
    r"(?:\s?_\s?\{?)?\s?(?:\\text\s?\{\s?)?\(?(?:in\s)?base[ -]?\s?\}?(?:\s|\\ )?\{?"
    r"(\d{1,2}|[a-z]{3,8})\s?\)?\s?\}{0,2}\)?$"
)
_BASE_TEN = re.compile(
    r"(\d)\s?_\s?(?:\{\s?(?:\(?\s?10\s?\)?|(?:\\text\s?\{\s?)?ten\s?\}?)\s?\}|\\text\s?\{\s?ten\s?\})"
)
_NAME = re.compile(r"(?:\\text\s?\{\s?([^{}\\]*)\}|([A-Za-z]+))\.?")
_LETTERS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]+")
_SIGN = re.compile(r"(?<![<>!=\\])=(?!=)|[()\[\]{}]")
_TEXT = re.compile(r"\\text\s?\{([^{}]*)\}")
_GREEK = (
    r"\\(?:(?:alpha|beta|[gG]amma|[dD]elta|epsilon|zeta|eta|[tT]heta|iota|kappa|[lL]ambda|mu|nu|[xX]i|rho|[sS]igma|tau"
    r"|[uU]psilon|[pP]hi|chi|[pP]si|[oO]mega)|var[a-z]{3,7}|ell|Pi)(?![a-zA-Z])"
)
_ACCENT = (
    r"\\(?:text|(?:wide)?(?:hat|tilde)|vec|(?:over|under)line|over(?:left)?(?:right)?arrow|bar|d?dot|acute|grave|check"
    r"|breve|math(?:bb|bf|cal|frak|it|normal|rm|scr|sf|tt)|boldsymbol|bm)\s?(?:\{[^{}]*\}|(?<![a-zA-Z])[a-zA-Z])"
)
_SHORT = "sum|gcd|lcm|max|min|avg|ans|age|day"  # words of three letters; other two or three are a product
# Letters, accents and fonts are names, never a constant or a function with a value of its own: `\pi`, `\sqrt{2}`.
_NAMED = (
    rf"(?:(?!(?:pi|ln|log|lg|exp|sqrt)(?![A-Za-z]))(?:[A-Za-z]{{4,}}|[A-Z][A-Za-z]{{1,2}}|[A-Za-z]|{_SHORT})(?![A-Za-z])|{_GREEK}|{_ACCENT}"
    r"|\\(?:max|min|sup|inf|gcd|lcm|Pr|arg|ker)(?![a-zA-Z])(?:\s?\{[^{}]*\})?)(?:\s?_\s?(?:\w|\{[^{}]*\}))?"
)
_VARIABLE = rf"(?:(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])|{_GREEK})"
# What an answer may be assigned to: letters with an index, words, a function, size or angle of something, a vector.
_ASSIGNED = re.compile(
    rf"{_NAMED}(?:\s?\^\s?\{{?-1\}}?)?'*(?:\s?\([^()]*\))?|\|{_NAMED}\||\[[A-Z]{{3,6}}\]|(?:m\s?)?\\angle\s?[A-Z]{{1,3}}"
    r"|\\(?:(?:arc)?(?:sin|cos|tan)|cot|sec|csc|det|deg|dim)(?![a-zA-Z])(?:\s?\^\s?\{?-1\}?)?\s?"
    rf"(?:{_NAMED}|\{{\s?{_NAMED}\s?\}}|\((?=[^()]*{_VARIABLE})[^()]*\)|\{{?\\angle\s?[A-Z]{{1,3}}\}}?)"
    r"|\\[dt]?frac\s?\{d[^{}]{0,5}\}\s?\{d[a-z][^{}]{0,4}\}|\\begin\{[pb]matrix\}[a-z_\d\s\\&]*\\end\{[pb]matrix\}"
)
_MOST_SIDES = 6
_APPROXIMATELY = re.compile(r"\\(?:approx|simeq|doteq)(?![a-zA-Z])")
_MODULUS = re.compile(
    r"(?:\\ |\s|,)*(?:\\pmod\s?\{([^{}]*)\}|\(?\s?(?:\\[bp]?mod(?![a-z])|\\text\s?\{\s?mod\s?\})\s?\{?(\w+)\}?\s?\)?)$"
)
_EQUIVALENT = re.compile(r"\\equiv(?![a-zA-Z])")
_SAME_UNITS = ({"degree", "degreeC"}, {"degree", "degreeF"})
_PROPER_NAME = re.compile(r"(?<![\\a-zA-Z{])[A-Z][a-z]{2,}")
_PRIME = re.compile(r"(?<=[a-zA-Z)}])'")


def same_text(one: str, other: str) -> bool:
    """Return whether two texts are equal and not empty, but for spaces that say nothing: not between two letters."""
    if r"\text" in one or r"\text" in other:
        one, other = (" ".join(_TEXT.sub(r"\1", text).split()).casefold() for text in (one, other))
    squeezed = [re.sub(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])", "", text) for text in (one, other)]
    return bool(squeezed[0]) and squeezed[0] == squeezed[1]


def same_value(given: str, gold: str) -> bool:
    r"""Return whether two texts in standard notation are the same value; `a \approx b` is each of them."""
    return any(_same_value(a, b) for a in _approximated(given) for b in _approximated(gold))


def _approximated(text: str) -> list[str]:
    r"""Return what a text with `\approx` gives: `x \approx 3.14` a value of x, `\frac16 \approx 0.167` two numbers.

    The letter e may be a name or the constant. `x^2 \approx 5` is an equation without a value.
    """
    first, *rest = _APPROXIMATELY.split(text)[:3]
    if not rest:
        return [text]
    name = first.strip()
    if not name:
        return [rest[0]]
    equation = f"{name}={rest[0]}"
    if _ASSIGNED.fullmatch(name):
        return [name, equation] if name == "e" else [equation]
    return [first, equation] if _variables(name) - _variables(rest[0]) else [first, *rest]


def _variables(text: str) -> set[str]:
    """Return the names of the variables of a text's last side; none if it cannot be read."""
    value = expression(measured(_sides(text)[-1].strip(), letters=True).value)
    return {str(symbol) for symbol in getattr(value, "free_symbols", ())}


def _same_value(given: str, gold: str) -> bool:
    """Return whether two texts in standard notation are the same value.

    An equation has the value that it gives to a name: `x=5` is 5, as is `f(2) = 5`; `x^2=5` and `6=5` are not. One of
    equal numbers has theirs: `2+3=5`.
    """
    sides = [_sides(_EQUIVALENT.sub("=", text) if _MODULUS.search(text) else text) for text in (given, gold)]
    if len(sides[0]) != len(sides[1]):
        values = [_assigned(parts) for parts in sides]
        if values[0] is None or values[1] is None:
            return False
        given, gold = values[0], values[1]
    given, gold = _BASE_TEN.sub(r"\1", given), _BASE_TEN.sub(r"\1", gold)
    bases = _in_base(given), _in_base(gold)
    if any(bases):
        return bases[0] == bases[1]
    if (residues := _same_residue(given, gold)) is not None:
        return residues
    if (ratios := same_ratio(given, gold)) is not None:
        return ratios
    names = _name(given), _name(gold)
    if names[0] and names[1] and (names[0][1] or names[1][1]):
        return names[0][0] == names[1][0]
    a = measured(given, letters=not _LETTERS.search(gold))
    b = measured(gold, letters=not _LETTERS.search(given))
    units = [r"\%" if text.endswith(r"\%") else one.unit for text, one in ((given, a), (gold, b))]
    differ = bool(units[0] and units[1] and units[0] != units[1] and set(units) not in _SAME_UNITS)
    return not differ and any(
        same_text(one, other) or _same_expression(one, other) for one, other in _percentages(a.value, b.value)
    )


def _percentages(given: str, gold: str) -> list[tuple[str, str]]:
    """Return what is to be compared of two values: of one percentage its number, or a hundredth of it."""
    numbers = [text.removesuffix(r"\%").strip() for text in (given, gold)]
    if (given == numbers[0]) == (gold == numbers[1]):
        return [(numbers[0], numbers[1])]
    hundredths = [n if n == text else rf"\frac{{{n}}}{{100}}" for n, text in zip(numbers, (given, gold), strict=True)]
    return [(numbers[0], numbers[1]), (hundredths[0], hundredths[1])]


def _sides(text: str) -> list[str]:
    r"""Return the sides of an equation, one if a text is none; a sign in brackets, as in `\sum_{k=1}`, is not its."""
    sides, depth, begin = [], 0, 0
    for match in _SIGN.finditer(text):
        depth += (match[0] in "([{") - (match[0] in ")]}")
        if match[0] == "=" and depth == 0:
            sides.append(text[begin : match.start()])
            begin = match.end()
    return [*sides, text[begin:]]


def _assigned(sides: Sequence[str]) -> str | None:
    """Return the value of an equation: what it assigns to a name, or its number; None if it has none."""
    first, last = sides[0].strip(), sides[-1].strip()
    if len(sides) == 1 or _ASSIGNED.fullmatch(first) or _is_true(sides):
        return last
    return first if len(sides) == 2 and _ASSIGNED.fullmatch(last) else None


def _is_true(sides: Sequence[str]) -> bool:
    """Return whether the sides of an equation are equal numbers, as in `2+3=5`."""
    values = [expression(measured(side.strip(), letters=True).value) for side in sides[:_MOST_SIDES]]
    numbers = all(value is not None and not getattr(value, "free_symbols", True) for value in values)
    return numbers and len(sides) <= _MOST_SIDES and all(expressions_equal(values[-1], v) for v in values[:-1])


def _same_expression(given: str, gold: str) -> bool:
    if any(drops(text) or _PROPER_NAME.search(text) for text in (given, gold)):
        return False
    if "=" not in given + gold and len(_PRIME.findall(given)) != len(_PRIME.findall(gold)):
        return False
    real = not (is_complex(given) or is_complex(gold))
    value, expected = (expression(text, real=real) for text in (given, gold))
    return value is not None and expected is not None and expressions_equal(value, expected)


def _same_residue(given: str, gold: str) -> bool | None:
    r"""Return whether two values are the same if one names a modulus, as `17\pmod{20}`; None if none does.

    Whole numbers to the same modulus are equal if they differ by a multiple of it.
    """
    one, other = _MODULUS.search(given), _MODULUS.search(gold)
    if one is None and other is None:
        return None
    values = [text[: match.start()] if match else text for text, match in ((given, one), (gold, other))]
    if one and other:
        moduli = one[1] or one[2], other[1] or other[2]
        if moduli[0] != moduli[1]:
            return False
        if all(re.fullmatch(r"-?\d{1,50}", text.strip()) for text in (*values, moduli[0])):
            return int(moduli[0]) > 0 and (int(values[0]) - int(values[1])) % int(moduli[0]) == 0
    return same_value(values[0].strip(), values[1].strip())


def _in_base(text: str) -> tuple[str, str] | None:
    """Return the digits and the base of a number like `1001_2`; None if it is none."""
    match = _BASE.fullmatch(_BASE_IN_WORDS.sub(r"_{\1}", text))
    if match is None:
        return None
    base = match["digit"] or _BASE_NAMES.get(match["base"], match["base"])
    digits = re.sub(r"[ ,]", "", match["digits"].upper()).lstrip("0") or "0"
    return digits, base


def _name(text: str) -> tuple[str, bool] | None:
    r"""Return letters in lower case, and whether they are a word: `\text`, or four and more; None if they are not.

    Fewer letters without `\text` are a product: AB is BA. Three capitals are points in their order.
    """
    match = _NAME.fullmatch(text)
    if match is None or any(c.isdigit() for c in match[0]):
        return None
    letters = " ".join(re.sub(r"[^\w\s]", " ", match[1] or match[2] or "").lower().split())
    word = match[1] is not None or len(letters) > 3 or (len(letters) == 3 and match[0].isupper())
    return (letters, word) if letters else None
