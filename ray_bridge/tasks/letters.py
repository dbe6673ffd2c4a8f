r"""Find the letter of a choice that a text begins with, states as its answer, or speaks of, in English and Chinese.

A text is first brought to one notation (`plain`), so that `（C）`, `\(C\)`, `**C**` and `\text{C}` are all `C` or
`(C)`. All patterns take time linear in the length of the text.
"""

import re
import string
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_bridge.tasks.end_tokens import END_TOKEN, INVISIBLE, START_TOKEN
from ray_bridge.tasks.judged import judgement
from ray_bridge.tasks.revisions import takes_back_at_once

LETTERS = string.ascii_uppercase
_MOST_NAMED = 1_000  # letters from the end of a text that one pattern finds

# Characters of East Asian keyboards and typesetting, one for one, and those of no width.
_ASCII = str.maketrans(
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    | {ord(c): "(" for c in "【「『〔〖"}
    | {ord(c): ")" for c in "】」』〕〗"}
    | dict.fromkeys(map(ord, INVISIBLE), "")
    | {"\u3000": " ", "。": ".", "’": "'", "‘": "'", "“": '"', "”": '"'}
)
_END, _START = re.compile(END_TOKEN), re.compile(START_TOKEN)
_IN_COMMAND = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|rm|it|sf)|mbox|bold(?:symbol)?|bm)\s?\{([^{}]*)\}")
_MARKUP = re.compile(r"\\[()\[\]]|\\(?:quad|,|;|:|!)|[$*`]|(?<!\w)_{1,3}(?=\S)|(?<=\S)_{1,3}(?!\w)")

_OPEN = r"[(\[{\"']{0,3}"
_CLOSE = r"[)\]}\"']{0,3}"
# "The answer is A planet" has an article, "The answer is A because ..." a letter.
_NO_ARTICLE = (
    r"(?-i:(?!(?<=[AI])[^\S\n](?!(?:and|as|because|but|by|due|for|from|if|in|is|not|or|since|which|with|would|must)\b)"
    r"[a-z]))"
)
_ALONE = r"(?-i:(?![A-Za-z0-9_^#]|'\w|\+\+|-\d|\.[a-z]|\.[A-Z]\.))"
# A small letter is one where nothing else can be meant: in brackets, or before a mark or the end.
_NAME = (
    rf"(?-i:[A-Z]{_ALONE}{_NO_ARTICLE}|[A-Z]{{2,4}}(?![A-Za-z0-9])"
    r"|(?<=[(\[])[a-z](?=[)\]])|[a-z](?=[)\]}.:]|\s{0,3}(?:\n|$))(?!\.[a-z]))"
)
_CAPITAL = rf"(?-i:[A-Z]){_ALONE}{_NO_ARTICLE}"
_OPTION = r"(?:(?:the\s)?(?:option|choice|letter)\s|选项)?"
_LETTER = rf"{_OPTION}{_OPEN}(?P<letter>{_NAME}){_CLOSE}+(?-i:(?!(?<=[)\]}}])[a-z]))"
_NEGATION = r"(?:not|wrong|incorrect|false|excluded|impossible|ruled\sout)\b"
_DENIAL = (
    rf"(?:(?:[^\S\n]*\([^()\n]{{0,80}}\))?\s(?:(?:is|are|was|would\sbe|seems)\s(?:\w{{3,10}}ly\s)?{_NEGATION}"
    rf"|(?:isn|wasn|doesn|can|don)'?t\b|cannot\b|does\snot\b)|\s?(?:选项|项)?(?:是|也|都|均|显然|明显){{0,2}}(?:不(?!是\s?\(?[A-Z])|错|有误|排除))"
)
_DENIED = re.compile(rf"{_DENIAL}|[)\]]?\s?(?:\((?:(?:wrong|incorrect|false|no)\b|错|不对)|[❌✗✘])")
_DOUBTED = re.compile(
    r"(?:(?:n't|\bnot|\bnever)\s(?:(?:think|believe|say|mean|sure|true|that|the|best|right|correct|choose|pick|select)\s)*"
    r"|(?:不|非|勿|别|排除)(?:应该?|能|会|可以?|宜|要)?"
    r"|\b(?:wrong|incorrect|false|worst|tempting|naive)\s"
    r"|\b(?:instead\sof|rather\sthan|other\sthan|except(?:\sfor)?|unlike|no\slonger|(?:any|every)thing\sbut|all\sbut|over)\s"
    r"(?:the\s)?(?:option\s|choice\s)?"
    r"|\b(?:(?:eliminat|exclud|reject|discard|dismiss)\w{0,4}|(?:rul|cross)\w{1,4}\sout)\s(?:the\s)?(?:option\s|choice\s)?"
    r"|\bleast\s(?:\w{2,14}\s)?)$",
    re.IGNORECASE,
)
# A further letter beside the first makes the statement one of several letters.
_JOINT = (
    r"\s{0,3}(?:[,/&;+、]|或者?|和|及|以及|与|还是|\b(?:or|and)\b){1,2}\s{0,3}(?:(?:maybe|possibly|perhaps|also|even)\s)?"
    rf"(?:option\s|choice\s|选项)?{_OPEN}(?-i:[A-Z]){_ALONE}(?-i:(?!(?<=[AI]),?\s[a-z])){_CLOSE}(?!{_DENIAL})"
)
_AFTER = re.compile(_JOINT, re.IGNORECASE)
_BEFORE = re.compile(
    r"(?<![A-Za-z0-9'])(?P<other>[A-Z])[)\]}\"']{0,3}\s{0,3}(?:[,/&、]|或者?|和|及|以及|与|还是|\b(?:or|and)\b){1,2}\s{0,3}"
    rf"{_OPTION}{_OPEN}$"
)
_SAYS = (
    r"(?:,\s[^,;:.\n]{1,30},(?=\sis\b))?(?:'s(?=\s)|\s{1,3}(?:is|was|(?:would|must|should|will|might|may|could|can\sonly|has\sto)\sbe)"
    r"(?:\s(?:most\slikely|\w{3,10}ly|thus|therefore|indeed))?)?"
    r"[)\]\"'>]{0,3}\s{0,3}(?:(?:应该?|就|只能|只有|可能)?(?:选择?|是|为)){0,2}\s{0,3}(?:[:=]|[-–—→]{1,2}>?)?\s{0,3}"
)
_SOMETHING_IS = r"[^.,;:\n]{1,60}?\bis:?\s"
_AFTER_NOUN = r"(?:(?<=answer)|(?<=correct\schoice)|(?<=correct\soption)|(?<=correct\sletter)|(?<=correct\sone))"
_CLAUSE_END = r"(?=\s*(?:[.,;:!?。、]|$|\n|\b(?:because|since|as|for|instead|rather|over|not)\b))"

# What says which letter is the answer.
_STATED = (
    re.compile(
        rf"(?:\banswer|\bans\b\.?|\bcorrect\s(?:choice|option|one|letter)|答案|正确的?(?:选项|答案)?|选项|选择?)"
        rf"(?:{_SAYS}|{_AFTER_NOUN}{_SOMETHING_IS}){_LETTER}",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?<![A-Za-z0-9'])[(\[]?(?P<letter>[A-Z]){_ALONE}{_CLOSE}"
        r"(?:\s(?:is|would\sbe|must\sbe|seems|looks|sounds)\s(?:(?:the|my|our|indeed|therefore|thus|also)\s){0,2}"
        r"(?:(?:single|only|most|correct|best|final)\s){0,2}(?:(?:correct|right|best|true|answer|better(?!\s(?:known|at|off)))\b"
        r"|(?<=most\s)(?:likely|accurate|appropriate|plausible|reasonable|suitable|logical|probable|fitting)\b"
        r"|more\s(?:likely|accurate|appropriate|plausible|reasonable|suitable|logical|probable|fitting)(?=\s*(?:[.,;!\n]|$)|\sthan\b(?!\snot\b)))"
        r"|\s?(?:选项|项)?(?:才?是|最|完全|显然){0,2}(?:正确|对的|符合题意|符合|答案))"
    ),
    re.compile(
        rf"(?:\b(?:not|neither)\s{_OPTION}{_OPEN}{_CAPITAL}{_CLOSE}"
        rf"(?:(?:,|,?\s(?:n?or|and|not)){{1,2}}\s{_OPTION}{_OPEN}{_CAPITAL}{_CLOSE}){{0,4}}"
        r",?\s(?:but|rather|instead)\s(?:rather\s|it's\s|it\sis\s)?|而是|不是{_OPEN}[A-Z]{_CLOSE}[,，]?是)"
        rf"{_LETTER}",
        re.IGNORECASE,
    ),
)
# What only speaks of an option.
_SPOKEN_OF = (
    re.compile(rf"(?<!not\s)(?:\b(?:choice|option)|选项){_SAYS}{_LETTER}", re.IGNORECASE),
    re.compile(r"(?<![A-Za-z0-9'])(?P<letter>[A-Z])\s?(?:选项|项)"),
)
# What a text says to refute a letter that it named before.
_REFUTED = re.compile(
    rf"(?<![A-Za-z0-9'])(?P<letter>[A-Z])(?![A-Za-z0-9']){_CLOSE}\s(?:(?:is|was)\s|(?:is|was)n't\s|can(?:not|'t)\sbe\s)"
    r"(?:(?<=n't\s)|(?<=not\sbe\s)|(?<='t\sbe\s)|not\s|(?=wrong|incorrect|false|excluded|impossible|ruled\sout))(?:the\s)?"
    r"(?:correct|right|true|answer|wrong|incorrect|false|excluded|impossible|ruled\sout)\b"
    r"|(?<![A-Za-z0-9'])(?P<chinese>[A-Z])\s?(?:选项|项)?(?:是|也|显然){0,2}(?:不正确|不对|错误|有误)"
)
# What a text concludes with, without the word "answer".
_CONCLUDED = (
    re.compile(
        r"(?:\b(?:it|that|this)(?:'s|\s(?:is|must\sbe|should\sbe|would\sbe|has\sto\sbe))\s|\b(?:go|going)\swith\s"
        r"|\b(?:choose|chose|pick|picked|select|selected|guess|say|think|believe|mean)\s|\b(?:so|thus|therefore|hence),?\s(?:it's\s)?"
        r"|\b(?:actually|wait|hm+|rather|then|correction|finally|must\sbe|probably|likely|maybe|perhaps|definitely|certainly|surely"
        r"|clearly|obviously|leaving|leaves(?:\sonly)?|by\selimination),?\s|(?<!all\s)(?<!any\s)(?<!thing\s)(?<!none\s)\bbut\s(?:now\s|rather\s)?"
        rf"|\b(?:i\.e\.|namely|viz\.),?\s|(?:所以|因此|故|应?该?是)[,，]?|(?:[=-]>|[→⇒])\s){_LETTER}{_CLAUSE_END}",
        re.IGNORECASE,
    ),
)
# A sentence that is nothing but a letter, at the end of a line; several of them are a list.
_ALONE_IN_SENTENCE = (
    re.compile(
        rf"(?:^|[.!?;:\n>]|\s[-–—]\s)[^\S\n]*{_OPTION}{_OPEN}(?P<letter>[A-Z]){_CLOSE}"
        r"(?=[.!?;]{0,2}[^\S\n]*(?:\n|$))",
    ),
)
_AT_ONCE = re.compile(
    rf"[\s,:;.…—–-]{{0,4}}(?:to\ssay\s|that\s|it's\s|it\sis\s)?{_OPTION}{_OPEN}(?P<letter>[A-Z]){_CLOSE}"
    r"(?=[.!]?\s*(?:\n|$)|,?\s(?:because|since|not|rather|instead)\b)"
)
_LETTER_BEFORE = re.compile(rf"(?:^|[.!?;:\n])\s*{_OPEN}[A-Z]{_CLOSE}[.;,:]?$")
_NOT_THIS = re.compile(r"\b(?:not|than|unlike|nor)\s(?:[\w'-]+\s){0,4}[(\[]$", re.IGNORECASE)  # not Venus (A)
_BRACKETED = (re.compile(r"[(\[](?P<letter>[A-Z])[)\]]"),)

_FIRST = re.compile(
    rf"\s*+(?:(?P<bullet>[-+•]\s)|[#>]\s?)*+{_OPEN}(?P<letter>[A-Za-z])"
    r"(?:(?P<mark>(?![\"']+\w)[.:;!)\]}'\"、。,]{1,6}|\?(?=\s*\Z)|\s[-–—]\s| (?=\S))(?P<rest>[^\n]*)"
    r"|[^\S\n]*(?:\n|$|</?\w{1,20}>))"
)
_REMARK = re.compile(r"\((?!s\))[^()]*\)[.!\s]*")  # C (not D)
_REASON = re.compile(
    r"(?:because|since|rather\sthan)\b"
    r"|(?:for\ssure|I\s(?:think|guess|believe)|definitely|probably|obviously|certainly|of\scourse)[.!\s]*(?:\n|$)"
    rf"|(?:not|over|instead\sof)\s{_OPTION}{_OPEN}[A-Z]\b"
)
_NEXT_BULLET = re.compile(r"[^\n]*\n\s*[-+•]\s")
_GLUED = re.compile(r"[a-z\d\\]|[A-Z]\b")  # right after the mark, it belongs to the letter: C.elegans, A.M., C:\
_OTHER = re.compile(
    rf"(?<![A-Za-z0-9'])(?<!not\s)(?<!n't\s)(?<!than\s)(?<!over\s)(?<!instead\sof\s)(?<!不是)(?P<letter>(?![AI],?\s[a-z])[A-Z])"
    rf"(?![A-Za-z0-9]|'\w)(?!{_CLOSE}{_DENIAL})"
)


@dataclass(frozen=True, kw_only=True)
class Named:
    """A letter that a text names.

    Attributes:
        at: its place in the text.
        letter: the letter; None if the text names several letters there.
    """

    at: int
    letter: str | None


def plain(text: str) -> str:
    r"""Return a text in ASCII's letters, brackets and marks, without markup, LaTeX around letters, and end tokens."""
    text = _END.sub("\n", _START.sub("", text)).translate(_ASCII)
    for _ in range(2):
        text = _IN_COMMAND.sub(r"\1", text)
    return _MARKUP.sub("", text)


def leading_letter(text: str, choices: Sequence[str], *, small: bool = False) -> str | None:
    """Return the letter with which a text begins, or None if there is none, or the line names another letter too.

    Args:
        text: in plain notation.
        choices: the choices, whose text may follow their letter, also with another letter in it: `B. Vitamin C`.
        small: whether a small letter counts, too, alone or before its choice.
    """
    match = _FIRST.match(text)
    letter = match["letter"].upper() if match else ""
    if match is None or not letter or letter not in LETTERS[: len(choices)]:
        return None
    rest, own = match["rest"] or "", plain(choices[LETTERS.index(letter)]).strip()
    after = rest.strip(" ([-=>→:…")
    follows = bool(own) and after.casefold().startswith(own.casefold()) and not after[len(own) :][:1].isalnum()
    gives_reason = bool(_REASON.match(rest))
    is_article = match["mark"] == " " and not (follows or gives_reason or _REMARK.fullmatch(rest))  # "A planet"
    is_small = match["letter"].islower() and not (small and (follows or not rest.strip()))
    is_list = bool(match["bullet"] and _NEXT_BULLET.match(text, match.end("letter")))
    in_brackets = (match["mark"] or "").strip(")]}\"'") == ""
    is_denied = in_brackets and bool(_DENIED.match(f" {rest.strip()}"))  # "(A) is wrong"
    is_glued = not (follows or gives_reason) and bool(_GLUED.match(rest))
    rest = after[len(own) :] if follows else rest
    is_wrong = judgement(rest, letter) is False
    if is_article or is_small or is_list or is_denied or is_glued or is_wrong or takes_back_at_once(rest):
        return None
    rivals = set(LETTERS[: len(choices)]) - {letter}
    others = (match.start() for match in _OTHER.finditer(rest) if match["letter"] in rivals)
    names_other = any(not _DOUBTED.search(rest[max(0, at - 40) : at]) for at in others)
    return None if names_other else letter


def stated(text: str, letters: str) -> list[Named]:
    """Return the letters that a text in plain notation states as its answer ("the answer is C", "C is correct")."""
    return _named(_STATED, text, letters)


def refuted(text: str, letters: str) -> list[Named]:
    """Return the letters of which a text in plain notation says that they are wrong ("A is incorrect")."""
    found = [(match.start(), match["letter"] or match["chinese"]) for match in _REFUTED.finditer(text)]
    return [Named(at=at, letter=letter) for at, letter in found if letter in letters]


def at_once(text: str, letters: str) -> str | None:
    """Return the letter that follows at once, as a clause of its own, words that reconsider (", C.")."""
    match = _AT_ONCE.match(text)
    return match["letter"] if match and match["letter"] in letters else None


def spoken_of(text: str, letters: str) -> list[Named]:
    """Return the letters of options that a text in plain notation speaks of and does not deny."""
    return _named(_SPOKEN_OF, text, letters)


def concluded(text: str, letters: str) -> list[Named]:
    """Return the letters with which a clause of a text in plain notation concludes ("so it's C", "I'd go with C")."""
    return _named(_CONCLUDED, text, letters)


def alone(text: str, letters: str) -> list[Named]:
    """Return the letters of a text in plain notation that are sentences of their own ("Is it A? No. C.")."""
    found = _named(_ALONE_IN_SENTENCE, text, letters)
    return [one for one in found if not _LETTER_BEFORE.search(text[max(0, one.at - 20) : one.at].rstrip())]


def bracketed(text: str, letters: str) -> list[Named]:
    """Return the letters in brackets of a text in plain notation; none if the last ones are a list of all choices."""
    found = _named(_BRACKETED, text, letters)
    if [one.letter for one in found[-len(letters) :]] == list(letters):
        return []
    return [one for one in found if not _NOT_THIS.search(text[max(0, one.at - 40) : one.at])]


def _named(patterns: tuple[re.Pattern[str], ...], text: str, letters: str) -> list[Named]:
    return [one for pattern in patterns for one in _matches(pattern, text, letters)]


def _matches(pattern: re.Pattern[str], text: str, letters: str) -> Iterator[Named]:
    for match in deque(pattern.finditer(text), maxlen=_MOST_NAMED):
        letter, start = match["letter"].upper(), match.start()
        if not set(letter) <= set(letters) or _DENIED.match(text, match.end()):
            continue
        if _DOUBTED.search(text[max(0, start - 40) : start]):
            continue
        before = _BEFORE.search(text[max(0, match.start("letter") - 20) : match.start("letter")])
        several = len(letter) > 1 or (before and before["other"] != letter) or _AFTER.match(text, match.end())
        yield Named(at=match.start("letter"), letter=None if several else letter)
