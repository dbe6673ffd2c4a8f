"""Find what a text says of the option that a line begins with: `A. Venus ✗`, `B) incorrect`, `C. 正确`.

Texts are in plain notation (`ray_bridge.tasks.letters.plain`). All patterns take time linear in the length of the text.
"""

import re
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
    r"^[^\S\n]*+(?:[-+•>#][^\S\n]?)*+(?:(?:option|choice)\s|选项)?[(\[]?(?P<letter>[A-Z])(?:[)\].:;、,]{1,3}|\s[-–—]\s|[^\S\n](?=[✗✘❌✓✔✅☑✖]))"
    r"(?P<rest>[^\n]*)",
    re.MULTILINE | re.IGNORECASE,
)
_LONGEST = 400  # characters of a line that are read
_MOST = 64  # lines that begin with an option


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An option that a line begins with.

    Attributes:
        at: the place of the letter in the text.
        letter: the letter.
        is_right: whether the line says that its option is right; None if it says neither.
    """

    at: int
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


def judged_lines(text: str, letters: str) -> list[Judged]:
    """Return the options with which lines of a text begin, if they are a list: at least two, one of them judged."""
    found = [
        Judged(at=line.start("letter"), letter=line["letter"], is_right=judgement(line["rest"], line["letter"]))
        for line in islice(_LINE.finditer(text), _MOST)
        if line["letter"] in letters
    ]
    is_list = len({one.letter for one in found}) > 1 and any(one.is_right is not None for one in found)
    return found if is_list else []
