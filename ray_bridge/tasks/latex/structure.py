r"""What kind of answer a text is: one value, or several as a list, a set, a tuple or an interval.

math-verify reads `3,5`, `\{3,5\}` and `(3,5)` as sets that may be equal, and counts equal elements once. Here a set is
no tuple, and a list holds each of its values as often as it is written.
"""

import re
from dataclasses import dataclass
from typing import Literal

Shape = Literal["value", "list", "set", "bracketed"]

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|.", re.DOTALL)
_OPEN, _CLOSE = {"(", "[", "{", r"\{"}, {")", "]", "}", r"\}"}
_LABEL = re.compile(r"\\text\s?\{[^{}]*\}\s?=\s?")
_AND = re.compile(r",?\s?(?:\\text\s?\{\s?(?:,\s?)?(?:and|or)\s?\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]))(?:\\ )?")
_MEMBER = re.compile(r"[a-zA-Z]\s?\\in(?![a-zA-Z])\s?")
_BUILDER = re.compile(r"\s?[a-zA-Z](?:\s?\\in\s?\\mathbb\{R\})?\s?(?:\\mid(?![a-zA-Z])|\\colon(?![a-zA-Z])|[|:])\s?")
_LETTER = r"(?:[a-zA-Z]|\\[a-z]{2,8})"
_NAMED = re.compile(rf"(?:{_LETTER}|\(\s?{_LETTER}(?:\s?,\s?{_LETTER})+\s?\))\s?=\s?(?=[(\[\\{{])")
_WORDS = re.compile(r"\\text\s?\{([^{}\\\d]+)\}")
_BETWEEN_WORDS = re.compile(r",\s?(?:and\s|or\s)?|\s(?:and|or)\s")
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
_MATRIX = re.compile(r"\\begin\{([pb])matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_BLANK = r"(?:\s|\\[ ,;:!]|\\q?quad(?![a-zA-Z]))"
_SPACING = re.compile(rf"^{_BLANK}+|{_BLANK}+$")
_SEPARATORS = {",", ";"}
_SIGNS = re.compile(r"\\(pm|mp)(?![a-zA-Z])\s?")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer by its structure.

    Attributes:
        shape: `value` is one value; `list` several without brackets; `set` with braces; `bracketed` a tuple, point or
            interval, with round or square brackets.
        text: all of it.
        items: the values, of one that has several.
        brackets: the two brackets, of a bracketed one.
    """

    shape: Shape
    text: str
    items: tuple["Answer", ...] = ()
    brackets: str = ""


def answer(text: str, depth: int = 0) -> Answer:
    """Return the structure of an answer in standard notation (`notation.standard`); nested at most four deep."""
    text = _without_name(text.strip())
    if text.replace(" ", "") in (r"\emptyset", r"\{\}"):
        return Answer(shape="set", text=text)
    if depth == 4 or r"\begin" in text:
        return Answer(shape="value", text=text)
    if words := _WORDS.fullmatch(text):
        text = ", ".join(rf"\text{{{part.strip()}}}" for part in _BETWEEN_WORDS.split(words[1]))
    if inside := _inside(text):
        return _enclosed(text, *inside, depth)
    items = [part for item in _split(_AND.sub(",", _joined(text))) for part in _both_signs(item)]
    if len(items) < 2:
        return Answer(shape="value", text=_joined(text))
    return Answer(shape="list", text=text, items=tuple(answer(item, depth + 1) for item in items))


def _enclosed(text: str, brackets: str, content: str, depth: int) -> Answer:
    """Return the structure of a text that is all in brackets."""
    items = _split(_joined(content) if ", " in content else content)
    if brackets == "{}" or (brackets == "()" and len(items) == 1):
        return answer(content, depth + 1)
    if brackets == r"\{\}" and (rule := _BUILDER.match(content)) and "," not in content:
        return Answer(shape="value", text=content[rule.end() :])
    if len(items) > 1 and brackets != r"\{\}" and len(both := _both_signs(text)) > 1:  # upper signs, then lower ones
        return Answer(shape="list", text=text, items=tuple(answer(one, depth + 1) for one in both))
    items = [one for item in items for one in _both_signs(item)]
    parts = tuple(answer(item, depth + 1) for item in items if item)
    if brackets == r"\{\}":
        return Answer(shape="set", text=text, items=parts)
    if len(items) == 1:
        return Answer(shape="value", text=text)
    return Answer(shape="bracketed", text=text, items=parts, brackets=brackets)


def vector(one: Answer) -> Answer | None:
    """Return a matrix of one column or one row as the tuple of its entries; None if an answer is none."""
    match = _MATRIX.fullmatch(one.text)
    if match is None or ("&" in match[2] and r"\\" in match[2].strip().removesuffix(r"\\")):
        return None
    entries = [entry.strip() for entry in re.split(r"&|\\\\", match[2].strip().removesuffix(r"\\"))]
    items = tuple(answer(entry, 1) for entry in entries)
    return Answer(shape="bracketed", text=one.text, items=items, brackets="()") if len(items) > 1 else None


def _without_name(text: str) -> str:
    r"""Return a text without `x \in` before it, and without `x =` or `(x, y) =` before several values in brackets."""
    if match := _MEMBER.match(text) or _LABEL.match(text):
        return text[match.end() :]
    match = _NAMED.match(text)
    inside = _inside(text[match.end() :]) if match else None
    return text[match.end() :] if match and inside and len(_split(inside[1])) > 1 else text


def _joined(text: str) -> str:
    """Return a text without the commas that group digits."""
    return _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)


def _inside(text: str) -> tuple[str, str] | None:
    """Return the brackets that enclose a whole text, and what is in them; None if none do."""
    depth = 0
    tokens = [(m[0], m.start()) for m in _TOKEN.finditer(text)]
    if not tokens or tokens[0][0] not in _OPEN or tokens[-1][0] not in _CLOSE:
        return None
    for token, start in tokens:
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 0 and start != tokens[-1][1]:
            return None
    first, last = tokens[0][0], tokens[-1][0]
    brackets = first + last
    whole = brackets in (r"\{\}", "{}") or not {first, last} & {r"\{", r"\}", "{", "}"}
    return (brackets, text[len(first) : len(text) - len(last)]) if whole else None


def _split(text: str) -> list[str]:
    """Return the parts of a text between commas and semicolons that no bracket holds."""
    parts, depth, begin = [], 0, 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 0 and token in _SEPARATORS:
            parts.append(_SPACING.sub("", text[begin : match.start()]))
            begin = match.end()
    parts.append(_SPACING.sub("", text[begin:]))
    return parts if all(parts) else [text.strip()]


def _both_signs(text: str) -> list[str]:
    r"""Return the two values of one with `\pm`."""
    if not _SIGNS.search(text):
        return [text]
    upper = _SIGNS.sub(lambda m: "+" if m[1] == "pm" else "-", text)
    lower = _SIGNS.sub(lambda m: "-" if m[1] == "pm" else "+", text)
    return [upper.removeprefix("+").strip(), lower.removeprefix("+").strip()]
