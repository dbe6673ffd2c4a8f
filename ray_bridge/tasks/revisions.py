"""Find what a text does not assert: what it asks, supposes or reports, and where it takes back what it said before.

All patterns look at a bounded part of the text, so they take time linear in its length.
"""

import re
from dataclasses import dataclass

_REACH = 160  # characters before and after a place that are searched

_SENTENCE_START = re.compile(r"[.!?;](?:\s|$)|[。！？；\n]")
_CLAUSE_START = re.compile(r"[.!?;:,](?:\s|$)|[。！？；：，\n]|\bthen\b")
_CONTRAST = re.compile(r"\b(?:but|however|yet|now)\b|[,;]\s(?:and\s)?(?:so|thus|hence|therefore)\b", re.IGNORECASE)
# After a clause that such a word begins, a comma begins the main clause.
_SUBORDINATE = re.compile(
    r"[\s\"'(]*(?:(?:and|so|but)\s)?(?:since|as|because|when|while|whereas|(?:even\s)?though|although|given|after|once|despite)\b",
    re.IGNORECASE,
)
_MAIN_CLAUSE = re.compile(r",\s(?=(?:the|my|our|it|this|that|option|choice|I|we|[A-Z])\b)")
_INVERTED = re.compile(
    r"[\s(\"'-]*(?:(?:so|and|but|well|hm+|wait|then|now|or|ok|okay|oh)[,\s]+)*"
    r"(?:is|isn't|are|was|were|could|couldn't|can|would|wouldn't|should|might|may|do|does|did|must|will|why|how|what\sif)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[^.!?\n。！？]{0,120}[?？]")
_ANSWERED_NO = re.compile(r"[)\]\"'\s]*(?:no|nope|nah|wrong|incorrect|不|否|错)(?![a-z])", re.IGNORECASE)
_ANSWERED_YES = re.compile(r"[)\]\"'\s]*(?:yes|yeah|yep|right|correct|exactly|是的?|对)(?![a-z])", re.IGNORECASE)
_ASKED_IN_CHINESE = re.compile(r"[^。！？\n]{0,20}吗")

_OF_THE_ANSWER = (
    r"(?:that|the|my|your|our|this|it|its|it's|is|was|were|correct|right|best|final|true|only|answer|option|choice)"
)
_SUPPOSED = re.compile(
    rf"(?:\b(?:if|suppos(?:e|ing)|assum(?:e|ing)|unless|whether|imagine|pretend|in\scase|what\sif|let's\ssay)(?!\s(?:so|not)\b)"
    rf"(?:,?\s{_OF_THE_ANSWER})*|如果|假如|假设|假定|若是?|要是)[\s(\"'是为答案选]*$",
    re.IGNORECASE,
)
_ON_CONDITION = re.compile(r"[)\]\"'.]{0,3},?\s(?:only\s)?(?:if|unless|provided|had|were)\b", re.IGNORECASE)
_CONDITIONAL = re.compile(r"\b(?:would|could|might|may)\s(?:be|have\sbeen)\b[\s(\"']*$", re.IGNORECASE)
_SAY = r"(?:say|said|think|thought|claim|believe|argue|guess|answer|suggest|assert|choose|chose|pick)(?:s|d|ed)?"
_REPORTED = re.compile(
    # "Most people say", but not "the most likely answer".
    r"\b(?:some|many|most(?=\s(?:of|people|\w{2,12}(?<!ou)s|would|will|might|may|say|think|believe|choose|pick)\b)|people|others|students?|they|he|she|friends?|someone|anyone|everyone|everybody|teacher|nobody)"
    rf"\s(?:\w{{1,12}}\s){{0,2}}{_SAY}\b"
    rf"|\b(?:one|you)\s(?:might|may|could|would)\s(?:\w{{1,12}}\s)?{_SAY}\b"
    rf"|\bI\s(?:first|initially|originally|previously|had)\s{_SAY}\b|\bI\s(?:thought|said|used\sto\sthink|would\shave\ssaid)\b"
    rf"|\bI\swas\s(?:going|about)\sto\s{_SAY}\b"
    r"|\bat\sfirst\b|\bmy\s(?:first|initial)\s(?:guess|thought|answer|idea)\b|\b(?:I|we|they|one)\s(?:\w{1,12}\s)?(?:doubt|deny|refuse)\b"
    r"|\b(?:wrong|false|incorrect|untrue|unlikely|impossible|mistake)\s(?:that|to\s(?:say|think|claim|believe))\b",
    re.IGNORECASE,
)

_BEGIN = r"(?:^|(?<=[.,;:!?…—–\n(-])|(?<=[.,;:!?…—–-]\s)|(?<=\sbut\s)|(?<=\s[-–—]\s))"
_TAKEN_BACK = (
    rf"{_BEGIN}(?:no|nope|nah|oops|sorry|wrong|incorrect|correction)(?=\s*(?:[.,;:!?…—–\n-]|$)|\swait\b)"
    r"|\bwait,?\sno\b|\bno,?\swait\b"
    r"|\b(?:that|this|it|which)(?:'s|\s(?:is|was|seems|must\sbe))\s(?:\w{3,10}ly\s)?"
    r"(?:wrong|incorrect|false|mistaken|not\s(?:right|correct|true|it)|an?\s(?:mistake|error))\b"
    r"(?!\s(?:about|of|to|that)\b|\sfor\s(?!\w+\s(?:\w+\s)?reasons?\b))"
    r"|\b(?:that|this|it)\s(?:isn't|wasn't|can't\sbe|cannot\sbe)\s(?:right|correct|true|it)\b"
    r"|\b(?:scratch|strike|ignore|disregard)\s(?:that|this|it)\b|\bmy\s(?:mistake|bad)\b"
    r"|\bI\s(?:was|am)\s(?:wrong|mistaken)\b(?!\s(?:about|to)\b)|\bI\smade\san?\s(?:mistake|error)\b|\bI\stake\s(?:that|it)\sback\b"
    r"|不对|错了|更正|搞错|(?<=[。，！？,.!?])不(?:是)?(?=[，。,.！])"
)
_RECONSIDERED = (
    r"\b(?:(?<!\ball\s)(?<!thing\s)(?<!none\s)but|however|actually|wait|hold\son|hm+|er|rather|instead|on\s(?:second|closer|further)\s\w{4,12}|on\sreflection"
    r"|i\smean|i\smeant|make\sthat|edit(?=:)|just\skidding|now|(?:my\s)?apolog(?:y|ies)|revised(?:\sanswer)?"
    r"|let\sme\s(?:\w{1,8}\s)?(?:re)?-?(?:check|think|consider|examine|read|calculate|correct|vise)(?:\s(?:that|this|myself))?|to\sbe\sprecise|in\sfact)\b"
    r"|等等|等一下|但是?|其实|实际上|重新"
)
_TURN = re.compile(rf"(?P<back>{_TAKEN_BACK})|{_RECONSIDERED}", re.IGNORECASE)
_REMARK = re.compile(
    r"[\s(]*(?:wrong|incorrect|false|no(?=\s*(?:[.,;:!?)]|$))|not\s(?:sure|right|correct|true|this|it\b))",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A place at which a text reconsiders what it said.

    Attributes:
        start: of the words that say so.
        end: after these words.
        takes_back: whether what stands right before it is taken back, rather than perhaps replaced.
    """

    start: int
    end: int
    takes_back: bool


def turns(text: str) -> list[Turn]:
    """Return the places at which a text reconsiders. "No" after a question answers it, and takes nothing else back."""
    found = []
    for match in _TURN.finditer(text):
        answers = text[max(0, match.start() - 10) : match.start()].rstrip(" \n)\"'").endswith(("?", "？"))
        found.append(Turn(start=match.start(), end=match.end(), takes_back=bool(match["back"]) and not answers))
    return found


def takes_back_at_once(text: str) -> bool:
    """Return whether a text begins by taking back what stands before it, as in `. No, that is wrong`, or `(wrong)`."""
    head = text[:_REACH]
    first = _TURN.search(head)
    return bool(_REMARK.match(head.lstrip(".:;!,) "))) or (first is not None and bool(first["back"]))


def is_asserted(text: str, at: int) -> bool:
    """Return whether the letter at a place of a text is asserted, and not asked, supposed, or said by others."""
    before, after = text[max(0, at - _REACH) : at], text[at + 1 : at + 1 + _REACH]
    sentence = _after(_SENTENCE_START, before)
    question = _QUESTION.match(after)
    if question and _ANSWERED_NO.match(after, question.end()):
        return False
    if question and _INVERTED.match(sentence) and not _ANSWERED_YES.match(after, question.end()):
        return False
    clause = _after(_MAIN_CLAUSE, sentence) if _SUBORDINATE.match(sentence) else sentence
    if _ASKED_IN_CHINESE.match(after) or _REPORTED.search(_after(_CONTRAST, clause)):
        return False
    if _SUPPOSED.search(_after(_CLAUSE_START, before)):
        return False
    return not (_CONDITIONAL.search(before) and _ON_CONDITION.match(after))


def _after(boundary: re.Pattern[str], text: str) -> str:
    """Return a text after the last place that matches."""
    return text[max((match.end() for match in boundary.finditer(text)), default=0) :]
