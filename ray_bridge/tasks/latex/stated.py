r"""Find the values that a text states: LaTeX, and runs of mathematics without dollar signs, as `(3,4)` or `2^{10}`.

A run ends at a word, so it is read as a whole: `5i` is not 5, `7_8` not 8, and "5 or 6" is both. All patterns take
linear time.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.latex.changed import is_changed, is_negative
from ray_bridge.tasks.latex.conditions import is_condition, is_reason, is_solved_by
from ray_bridge.tasks.latex.units import changes_number, unit_name
from ray_bridge.tasks.revisions import is_asserted, turns

_MOST = 1_500  # characters of a formula
_FORMULA = (
    rf"\$\$(?P<double>[^$]{{1,{_MOST}}}?)\$\$|\\\[(?P<display>(?:[^\\]|\\(?!\])){{1,{_MOST}}}?)\\\]"
    rf"|\\\((?P<inline>(?:[^\\]|\\(?!\))){{1,{_MOST}}}?)\\\)"
    rf"|(?P<matrix>\\begin\{{[a-zA-Z]{{1,12}}\}}[^$]{{1,{_MOST}}}?\\end\{{[a-zA-Z]{{1,12}}\}})"
    # Of amounts, as in `$5 and $7` or `$5-$7`, the second sign stands after a space or before a digit.
    rf"|(?<!\\)\$(?=(?P<spaced>\s)?)(?P<dollar>(?:[^$\n\\]|\\.){{1,{_MOST}}}?)(?(spaced)(?<=\s)|(?<!\s))\$(?!\d)"
)
_CONTENTS = ("double", "display", "inline", "matrix", "dollar")
_TOKEN = re.compile(
    rf"(?P<formula>{_FORMULA})|(?P<tag></?\w{{1,20}}>|<\|\w{{1,30}}\|>|\*\*|__|<?[-=]{{1,3}}>)"
    r"|(?P<text>\\(?:text|mathrm|mbox|textbf|operatorname)\s?\{[^{}\n]{0,200}\})"
    r"|(?P<command>\\[a-zA-Z]+|\\[{}%$ ,;:!|])"
    r"|(?P<number>(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d{1,3}(?: \d{3})+(?!\d)|\d+ (?=\d+/\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"|(?P<letters>[^\W\d_]+)|(?P<comma>[,;])|(?P<space>[^\S\n]+)"
    r"|(?P<sign>[-+*/^_=<>()\[\]{}|!%:]|[−–×·⋅÷±≤≥≠≈∞√π°⁄½¼¾⅓⅔∪∩∅²³⁴])|(?P<other>.)",
    re.DOTALL,
)
_OPERATOR = re.compile(r"[-+*/^_=<>|:−–×·⋅÷±≤≥≠≈⁄∪∩({\[]")
_FUNCTION = {"sqrt", "sin", "cos", "tan", "log", "ln", "pi"}
_WORDS = {"a", "A", "I"}  # of one letter
_SAYS_SOMETHING = re.compile(r"\d|\\(?!text|boxed|[ ,;:!])|[π∞√∅½¼¾⅓⅔]|[a-zA-Z]\s?[-+*/^_=<>]\s?[a-zA-Z]")
_JOINED = re.compile(r"(?:\s|\*\*)*(?:(?P<comma>[,;])|,?\s*(?:and|or)\b)(?:\s|\*\*)*")
_SENTENCE_END = re.compile(r"[*_)\]]{0,3}(?:\s*$|[.!?](?:\s|$)|\s*\n)")
_DENIED = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bcannot|\brather than|\binstead of|\bwithout)(?: (?:be|equal(?: to)?|exactly|just))?"
    r"[\s*_($]{0,4}$"
)
_TIMES = re.compile(r"(?<=\d )x(?= \d)")
_NUMERIC_SIDE = re.compile(r"(?:[^a-zA-Z<>≤≥≠≈\\]|\\text\s?\{[^{}]*\}|\\(?!in|ne|l|g|a|s)[a-z]+|\\sqrt)*")
_PERCENT = re.compile(r"\s?(?:\\?%|[Pp]er ?cent\b|[Pp]ct\b)")
_HALF_OF_DAY = re.compile(r" ?([ap]\.m\.|[AP]\.?M\b\.?|pm\b)")
_AFTER = re.compile(
    r"(?P<half> and a half\b)| ?(?P<word>[a-zA-Z]{1,12}\b(?:/[a-z]{1,4}\b)?)(?P<power>(?:\^\{?[23]\}?|[²³])?)"
)
_FINAL = re.compile(r"(?i:final answer)(?:[^.\n]{0,100}?\bis\b|:|\*\*)?:?")
_ANSWER = re.compile(r"(?i:answer)(?P<says>[^.\n]{0,60}?\bis\b|[\s*_\"]{0,4}[:=])?:?")
_ORDINAL = re.compile(r"\d(?:st|nd|rd|th)\b")
_RAISED_ORDINAL = re.compile(r"\s*\d+\s?\^\s?\{?\s?(?:\\[a-z]+\s?\{\s?)?(?:st|nd|rd|th)(?:\s?\}){1,2}\s*")
_DIGIT = re.compile(r"\d")
_MOST_PLACES = 64  # values from the end of a text that are tried
_LONGEST_RUN = 500  # characters
_REACH = 50  # characters between the word "answer" and the answer


@dataclass(frozen=True, kw_only=True)
class Stated:
    """A value as a text states it.

    Attributes:
        written: the value, LaTeX without dollar signs.
        parts: the values that are joined in it, if it is a list.
        boxed: whether it is what the text's last box holds.
    """

    written: str
    parts: tuple[str, ...] = ()
    boxed: bool = False


@dataclass(frozen=True, kw_only=True)
class _Place:
    start: int
    end: int
    written: str
    parts: tuple[str, ...] = ()


def stated_values(text: str) -> Iterator[Stated]:
    """Yield the values that a text states, likeliest first.

    First what follows "the final answer is", then the last box, then what follows "answer", then all values from the
    end. A value that the text denies ("not 6"), asks, supposes or changes ("twice 6") is left out, and so is all that
    it takes back ("5. No, 6"); values that "or", "and" or commas join are one list.
    """
    text = _TIMES.sub("×", text)
    places = [_signed(text, place) for place in _lists(_places(text), text) if _counts(text, place)]
    begin, places = _kept(text, places)
    for match in reversed(list(_FINAL.finditer(text, begin))):
        yield from _first_after(text, places, match.end(), 2 * _REACH)
    if (box := boxed_answer(text[begin:])) is not None:
        yield Stated(written=box, boxed=True)
    for match in reversed(list(_ANSWER.finditer(text, begin))):
        yield from _first_after(text, places, match.end(), _REACH if match["says"] else _REACH // 4)
    for place in reversed(places[-_MOST_PLACES:]):
        if is_asserted(text, place.start) and not is_condition(text, place.start, place.written):
            yield Stated(written=place.written, parts=place.parts)


def _kept(text: str, places: list[_Place]) -> tuple[int, list[_Place]]:
    """Return from where on a text counts, with its values: after the words that last take back the value before them.

    If no value follows these words, only that one is left out.
    """
    ends = [place.end for place in places]
    for turn in reversed(turns(text)):
        last = bisect_left(ends, turn.start + 1) - 1
        if turn.takes_back and last >= 0 and turn.start - ends[last] <= _REACH:
            if _DIGIT.search(text, ends[last], turn.start):
                break
            if places[last + 1 :]:
                return turn.end, places[last + 1 :]
            places = places[:last]
    return 0, places


def _counts(text: str, place: _Place) -> bool:
    return not _is_denied(text, place) and not is_changed(text, place.start, place.end)


def _signed(text: str, place: _Place) -> _Place:
    """Return a place with a minus sign if a word says so, as in "negative 5"."""
    return replace(place, written=f"-{place.written}") if is_negative(text, place.start) else place


def _is_denied(text: str, place: _Place) -> bool:
    return _DENIED.search(text[max(0, place.start - 40) : place.start]) is not None


def _first_after(text: str, places: list[_Place], at: int, reach: int) -> Iterator[Stated]:
    first = bisect_left(places, at - 1, key=lambda place: place.start)
    if first < len(places) and places[first].start <= at + reach and is_asserted(text, places[first].start):
        yield Stated(written=places[first].written, parts=places[first].parts)


def _places(text: str) -> list[_Place]:
    """Return the formulas and the runs of mathematics of a text, each with a unit or percent sign that follows it."""
    places, start, end = [], -1, -1
    depth = 0
    tokens = [*_TOKEN.finditer(text), None]
    for before, match in zip([None, *tokens], tokens, strict=False):
        if match is not None and not match["formula"] and _continues(match, before, text, depth, start >= 0):
            start, end = (match.start() if start < 0 else start), match.end()
            depth += (match[0] in ("(", "[", "{", r"\{")) - (match[0] in (")", "]", "}", r"\}"))
            continue
        if start >= 0:
            places += _run(text, start, end)
        start, depth = -1, 0
        if match is not None and match["formula"]:
            content = next(match[name] for name in _CONTENTS if match[name])
            if not _RAISED_ORDINAL.fullmatch(content):
                places.append(_with_unit(text, match.start(), match.end(), boxed_answer(content) or content))
        elif match is not None and not match["space"] and _continues(match, None, text, 0, False):
            start, end, depth = match.start(), match.end(), int(match[0] in ("(", "[", "{", r"\{"))
    # The exponent of a unit, as in `25 cm^2`, is no value.
    return [place for before, place in pairwise([None, *places]) if place and (not before or place.start >= before.end)]


def _continues(match: re.Match[str], before: re.Match[str] | None, text: str, depth: int, inside: bool) -> bool:
    """Return whether a token belongs to a run of mathematics, after the token before it."""
    kind = match.lastgroup
    if inside and before is not None and before.lastgroup == "space" and _is_value(match):
        # Two values beside each other are no product: `5 6`, `(a) 5`.
        last = _char(text, before.start() - 1)
        command = re.search(r"\\[a-zA-Z]+\s*$", text[max(0, match.start() - 30) : match.start()])
        factor = match[0] in _FUNCTION and last.isdigit()
        if not (_OPERATOR.match(last) or command or factor or (depth and last in ",;")):
            return False
    if kind == "letters":
        return _is_symbol(match, text)
    if match[0] == ":":
        return bool(re.match(r"\d:\d", text[match.start() - 1 : match.end() + 1]))
    if kind == "comma":
        return depth > 0
    return kind in ("number", "command", "sign") or (inside and kind in ("text", "space"))


def _is_value(match: re.Match[str]) -> bool:
    return match.lastgroup in ("number", "letters") or match[0] in ("(", "[", "{")


def _is_symbol(match: re.Match[str], text: str) -> bool:
    """Return whether letters are a variable, a function, or factors right after a number, rather than a word."""
    letters, before, after = match[0], _char(text, match.start() - 1), _char(text, match.end())
    glued = bool(before) and (before.isdigit() or before in ")}]^_/*+-=(|{")
    if letters in _FUNCTION:
        return True
    if len(letters) == 1:
        return letters not in _WORDS or glued or (bool(after) and after in "^_/*+=")
    return len(letters) <= 3 and glued and letters not in ("and", "or", "th", "st", "nd", "rd")


def _char(text: str, at: int) -> str:
    return text[at] if 0 <= at < len(text) else ""


def _run(text: str, start: int, end: int) -> list[_Place]:
    """Return the place of a run without what stands around it, if it says anything."""
    end = start + len(text[start:end].rstrip())
    while start < end <= start + _LONGEST_RUN:
        run = text[start:end]
        lead = len(run) - len(run.lstrip("*/^_=:)]}!|%, "))
        if re.match(r"[-–+−] ", run[lead:]) or (
            run[lead : lead + 1] in ("-", "–") and start + lead > 0 and re.match(r"[^\W_]", text[start + lead - 1])
        ):
            lead += 1
        tail = len(run) - len(run.rstrip("*/^_=:([{+-–−<>|, "))
        if run.endswith("!") and "!" not in run[:-1]:
            tail = 1
        run = run[lead : len(run) - tail]
        unclosed, unopened = _unbalanced(run)
        lead, tail = lead + unclosed, tail + unopened
        if not lead and not tail:
            break
        start, end = start + lead, end - tail
    else:
        return []
    says = _SAYS_SOMETHING.search(run) and not _ORDINAL.match(text, end - 1)
    return [_with_unit(text, start, end, _written(run))] if says else []


def _written(run: str) -> str:
    run = re.sub(r"(?<![\\a-zA-Z])sqrt\s?\(([^()]*)\)", r"\\sqrt{\1}", run)
    return re.sub(r"(?<![\\a-zA-Z])(sin|cos|tan|log|ln|pi)(?![a-zA-Z])", r"\\\1 ", run)


def _unbalanced(run: str) -> tuple[int, int]:
    """Return how many brackets at the beginning of a run are not closed, and how many at its end were not opened."""
    depth, lowest = 0, 0
    for c in run:
        depth += (c in "([{") - (c in ")]}")
        lowest = min(lowest, depth)
    first, last = len(run) - len(run.lstrip("([{")), len(run) - len(run.rstrip(")]}"))
    return min(depth - lowest, first), min(-lowest, last)


def _with_unit(text: str, start: int, end: int, written: str) -> _Place:
    """Return a place with the percent sign, the unit, or the word that changes the number, if one follows.

    Of a calculation, as `12 * 4 = 48` or `a + b = 8 + 9 = 17`, only the result is written.
    """
    equation, _, result = written.rpartition("=")
    name, _, calculation = equation.rpartition("=")
    is_number = _NUMERIC_SIDE.fullmatch(calculation if name and _DIGIT.search(calculation) else equation)
    if result.strip(" ,") and equation and is_number:
        written = result.strip()
    if percent := _PERCENT.match(text, end):
        return _Place(start=start, end=percent.end(), written=written.rstrip("%\\ ") + r"\%")
    if (half := _HALF_OF_DAY.match(text, end)) and written[-1:].isdigit():
        return _Place(start=start, end=half.end(), written=rf"{written}\text{{ {half[1]}}}")
    after = _AFTER.match(text, end)
    if after and after["half"]:
        return _Place(start=start, end=after.end(), written=rf"{written}\text{{ and a half}}")
    if after and re.search(r"[\d}]\s*$", written) and (changes_number(after["word"]) or _is_unit(after)):
        unit = rf"\text{{ {after['word']}}}{after['power']}"
        return _Place(start=start, end=after.end(), written=f"{written}{unit}")
    return _Place(start=start, end=end, written=written)


def _is_unit(after: re.Match[str]) -> bool:
    return unit_name(after["word"]) is not None and after["word"].lower() not in ("in", "am", "day", "second", "a")


def _are_apart(text: str, one: _Place, other: _Place, comma: str | None) -> bool:
    """Return whether two places are no list, though "and" or a comma stands between them."""
    return (comma is not None and is_reason(text, one.start)) or is_solved_by(one.written, other.written)


def _lists(places: list[_Place], text: str) -> list[_Place]:
    """Return places, those that are joined by "or", "and" or commas as one; by commas alone at a sentence's end."""
    groups: list[list[_Place]] = []
    words: list[bool] = []  # whether a word joins a group
    for before, place in pairwise([None, *places]):
        assert place is not None
        between = _JOINED.fullmatch(text, before.end, place.start) if before is not None else None
        if before and between and _are_apart(text, before, place, between["comma"]):
            between = None
        if between:
            groups[-1].append(place)
            words[-1] = words[-1] or between["comma"] is None
        else:
            groups.append([place])
            words.append(False)
    lists = []
    for group, word in zip(groups, words, strict=True):
        if len(group) > 1 and (word or _SENTENCE_END.match(text, group[-1].end)):
            parts = tuple(place.written.strip(" ,") for place in group)
            lists.append(_Place(start=group[0].start, end=group[-1].end, written=", ".join(parts), parts=parts))
        else:
            lists += group
    return lists
