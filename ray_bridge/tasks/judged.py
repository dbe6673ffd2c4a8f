"""Find what a text says of the option that a line begins with: `A. Venus ✗`, `B) incorrect`, `C. 正确`.

Texts are in plain notation (`ray_bridge.tasks.letters.plain`). All patterns take time linear in the length of the text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

_THING = r"(?:\s(?:option|choice|statement|answer|claim|one))?"
_WRONG = r"(?:incorrect|wrong|false|untrue|excluded|eliminated|rejected|impossible|ruled\sout)"
_RIGHT = r"(?:correct|right|true)"
_IS = r"(?:'s|\s(?:is|was|must\sbe|seems|can\sbe|could\sbe|should\sbe|has\sto\sbe))(?:\s\w{3,10}ly)?"
_IS_NOT = (
    r"\s(?:(?:is|was)(?:\snot|n't)|can(?:not|'t|\snot)\sbe|could(?:\snot|n't)\sbe|does(?:\snot|n't)\sseem)"
    rf"\s(?:the\s)?(?:(?:most\s)?(?:{_RIGHT}|accurate|likely|plausible|appropriate|suitable)|best|answer)\b"
)
_OF_ELSE = r"(?!\s(?:to|that|of|about)\b)"  # "it is wrong to say", "which is not true of Venus"
_DENIES = rf"(?:{_IS}\s{_WRONG}\b|{_IS_NOT}){_OF_ELSE}"
# A judgement without a subject, between marks or after a word that concludes.
_BARE = r"(?:^|[.,;:(\[–—-]|\b(?:so|thus|hence|therefore)\b)\s*(?:(?:so|thus|hence|therefore|also|clearly),?\s)?"
_STOP = r"(?=\s*(?:[.,;:!)\]–—-]|$)|\s(?:as|because|since)\b)"
_SAID_WRONG = re.compile(
    rf"\b(?:this|that|it|which|the(?=\s(?:option|choice|statement)\b)){_THING}{_DENIES}"
    rf"|^\W{{0,3}}(?<!\w){_DENIES}"
    rf"|{_BARE}(?:{_WRONG}|not\s(?:the\s)?(?:{_RIGHT}|answer)|no){_STOP}"
    r"|[❌✗✘✖✕❎]",
    re.IGNORECASE,
)
_SAID_RIGHT = re.compile(
    rf"\b(?:this|that|it|which|the(?=\s(?:option|choice|statement)\b)){_THING}{_IS}\s(?:the\s)?(?:{_RIGHT}\b|best\b|answer\b)"
    rf"|^\W{{0,3}}(?<!\w){_IS}\s(?:the\s)?(?:{_RIGHT}\b|best\b|answer\b)"
    rf"|{_BARE}(?:the\s)?(?:{_RIGHT}(?:\s(?:answer|option|choice))?|yes){_STOP}"
    r"|[✓✔✅☑√]",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[^.,;:!?，；：！？]+")
_WRONG_IN_CHINESE = re.compile(r"错|不正确|不对|不符|不是正确|不选|有误|排除")
_RIGHT_IN_CHINESE = re.compile(r"正确|符合|(?<![反绝针])对$")
_NAMED = re.compile(r"(?<![A-Za-z0-9'])[A-Z](?![A-Za-z0-9'])|其[他它余]|别的")
_EXCLUDES = r"(?:eliminat|exclud|reject|discard|dismiss)\w{0,4}|rul\w{1,3}\sout|cross\w{0,3}\sout"
_LINE = re.compile(
    r"^[^\S\n]*+(?:[-+•>#][^\S\n]?|\d{1,2}[.)][^\S\n])*+(?:(?:option|choice)\s|选项)?[(\[]?(?P<letter>[A-Z])"
    r"(?:[)\].:;、,]{1,3}|\s[-–—]\s|[^\S\n](?=[✗✘❌✓✔✅☑✖])|(?=[^\S\n]*$))(?P<rest>[^\n]*)",
    re.MULTILINE | re.IGNORECASE,
)
# A letter other than the articles A and I.
_MENTION = re.compile(r"(?<![A-Za-z0-9'])(?:[B-HJ-Z]|[AI](?!,?\s[a-z]))(?![A-Za-z0-9'])")
# Begins a line that no longer speaks of the option above it.
_CONCLUDES = re.compile(
    r"\W*(?:(?:so|therefore|thus|hence)\b(?!,?\s(?:this|that|it)\b)|(?:in\s)?conclusion\b|overall\b|final|explanation\b"
    r"|(?:the\s|my\s)?(?:(?:correct|right|best|true)\s(?:answer|option|choice)|answer)\b|因此|所以|综上|答案|故)",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[.,;!]")
_LONGEST = 400  # characters of a line, or of the lines below an option, that are read
_MOST = 64  # lines that begin with an option


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option that a line begins with.

    Attributes:
        start: where the line begins.
        at: the place of the letter in the text.
        end: where the line ends.
        letter: the letter.
        is_right: whether the text says that this option is right; None if it says neither.
    """

    start: int
    at: int
    end: int
    letter: str
    is_right: bool | None


def judgement(rest: str, letter: str) -> bool | None:
    """Return whether a line says of the option that it begins with that it is right; None if it says neither.

    Args:
        rest: what follows the letter and its choice.
        letter: the letter.
    """
    rest = rest[:_LONGEST]
    own = rf"(?<![A-Za-z0-9']){letter}(?![A-Za-z0-9])[)\]]?"
    if _SAID_WRONG.search(rest) or re.search(rf"{own}{_DENIES}|\b(?i:{_EXCLUDES})\s(?:option\s|choice\s)?{own}", rest):
        return False
    if _SAID_RIGHT.search(rest):
        return True
    clauses = [one[0].strip() for one in _CLAUSE.finditer(rest) if set(_NAMED.findall(one[0])) <= {letter}]
    if any(_WRONG_IN_CHINESE.search(clause) for clause in clauses):
        return False
    return True if any(_RIGHT_IN_CHINESE.search(clause) for clause in clauses) else None


def option_lines(text: str, letters: str) -> list[Option]:
    """Return the options with which lines of a text begin, and what these lines and those below say of each.

    Below the only such line counts no more than the first clause, as in `A) 5 m` and then `This is wrong.`
    """
    lines = [line for line in islice(_LINE.finditer(text), _MOST) if line["letter"] in letters]
    is_list = len({line["letter"] for line in lines}) > 1
    options = []
    nexts = [*(line.start() for line in lines), len(text)][1:]
    for line, following in zip(lines, nexts, strict=True):
        said = judgement(line["rest"], line["letter"])
        if said is None:
            said = _judgement_below(text[line.end() : min(following, line.end() + _LONGEST)], line["letter"], is_list)
        start, end = line.start(), line.end()
        options.append(Option(start=start, at=line.start("letter"), end=end, letter=line["letter"], is_right=said))
    return options


def judged_lines(options: Sequence[Option]) -> list[Option]:
    """Return options if they are a judged list: at least two of them, one of which is called right or wrong."""
    is_list = len({one.letter for one in options}) > 1 and any(one.is_right is not None for one in options)
    return list(options) if is_list else []


def begins_with_options(text: str, options: Sequence[Option]) -> bool:
    """Return whether a text begins with an option that it rejects, or lists its options, rather than with its answer.

    Options from A on, each on the line after the other, are a list, unless all but the first are called wrong.
    """
    if not options or text[: options[0].start].strip():
        return False
    first, others = options[0], options[1:]
    if first.is_right is not None or not others:
        return first.is_right is False
    in_order = first.letter == "A" and others[0].letter == "B" and not text[first.end : others[0].start].strip()
    return in_order and not all(one.is_right is False for one in others)


def walks_through(options: Sequence[Option], letters: str) -> bool:
    """Return whether options are all there are, in their order."""
    return "".join(one.letter for one in options[: len(letters)]) == letters


def _judgement_below(text: str, letter: str, is_list: bool) -> bool | None:
    """Return what the lines below an option say of it, up to one that names another letter or concludes."""
    for line in text.splitlines():
        if _CONCLUDES.match(line) or set(_MENTION.findall(line)) - {letter}:
            return None
        if not is_list and line.strip():
            return judgement(_CLAUSE_END.split(line, maxsplit=1)[0].strip(), letter)
        if (said := judgement(line, letter)) is not None:
            return said
    return None
