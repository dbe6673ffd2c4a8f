r"""Score numeric answers in GSM8K's format: `#### number` strictly, the last number of the text flexibly.

Follows GSM8K's own grader (Cobbe et al. 2021) and the two filters of lm-evaluation-harness, but compares numbers as
numbers, and accepts a number only as a whole: `#### 1/2` is not 1. docs/scoring.md lists every difference.

All patterns take time linear in the length of the text, and no number is rounded.
"""

import re
import unicodedata
from collections import deque
from functools import lru_cache

from ray_bridge.tasks.data.rows import RowError, shown
from ray_bridge.tasks.end_tokens import END_TOKEN, INVISIBLE
from ray_bridge.tasks.task import Score
from ray_bridge.tasks.unit_words import EAST_ASIAN_UNIT, is_unit

# Signs, points and commas that other keyboards and typesetters write, one character for one.
_ASCII = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u207b\u2212\ufe58\ufe63\uff0d", "-"),
        **dict.fromkeys("\u207a\ufb29\ufe62\uff0b", "+"),
        **dict(zip("，．／＄％￥￡￠", ",./$%¥£¢", strict=True)),
        **dict.fromkeys(INVISIBLE, ""),  # of no width
    }
)
_FIXED_SPACES = "\N{NO-BREAK SPACE}\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}"
# Groups of three (1,000,000), India's groups of two before the last three (10,00,000), or none. A comma that is
# followed by no group separates a list. The groups of two are bounded, as a list of pairs (12,12,12,...) is none.
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,2}(?:,\d{2}){1,12},\d{3}(?!\d)|\d{1,3}(?:['’_]\d{3})+(?!\d)|\d+)"
_NUMBER = (
    r"(?P<sign>{sign}?)(?:\\?[$€£¥₹](?P<inner>(?:(?<!\d[$€£¥₹])-)?))?"
    r"(?P<digits>(?:{spaced}|{integer})(?:\.\d+)?|(?<!\d)\.\d+)"
    r"(?:[eE](?P<exponent>[+-]?\d{{1,2}})(?!\d))?"
)


def _number(spaced: str, sign: str = "[+-]") -> str:
    """Return the pattern of a number whose groups of three digits are also separated as `spaced` says."""
    return _NUMBER.format(spaced=spaced, integer=_INTEGER, sign=sign)


_GROUPED = _number(rf"\d{{1,3}}(?:[ {_FIXED_SPACES}]\d{{3}})+(?!\d)", r"(?:[+-]\s?)")
_WHOLE = re.compile(_GROUPED + r"\.?")
# Markdown, LaTeX, brackets and a currency may stand around the number that follows the mark on its line.
_WRAP = (
    r"(?:\*\*|<(?!(?:del|strike|su[bp])\b)\w{1,12}>|[*_`'\"(\[{]|\\(?:boxed|text|textbf|mathbf)\s?\{?|\\[(\[]|\\?\$"
    r"|[^\S\n]|(?:US|AU?|CA?|HK|NZ|S)(?=\\?\$)|(?:USD|EUR|GBP|Rs\.?)(?![a-zA-Z])){0,12}?"
)
_STRICT = re.compile(rf"####{_WRAP}{_GROUPED}")

_CLOSING = r"(?:[*_`'\"”’»)\]}$]|\\[)\]$]|</\w{1,20}>|<br\s?/?>|\\{1,2}(?=\s*$)|" + END_TOKEN + ")"
_SPACE = r"(?:\s|\\[ ,;:!])"
_TEXT = r"\\(?:text|mathrm|textbf|textit)\s?\{\s?"
_WORD = r"[^\W\d_]+(?:\^(?:[23]|\{[23]\}))?"
# All that may follow the number on its line: what closes, a percent sign or a currency, a unit (unit_words.py), one
# mark of punctuation, and signs of approval. Whatever else follows may change the number or take it back.
_LINE_END = re.compile(
    rf"{_CLOSING}*+(?:{_SPACE}?\\?[%$€£¥₹¢]|°(?:[CFK]\b)?|\^\{{?\\circ\}}?)?+{_CLOSING}*+"
    rf"(?:{_SPACE}*+(?:{EAST_ASIAN_UNIT})|{_SPACE}+(?i:[ap]\.?m\b)"
    rf"|(?:{_SPACE}*+[(\[]?{_TEXT}|{_SPACE}++[*_`'\"“‘«(\[]{{0,3}}|\s?/\s?|-)"
    rf"(?P<unit>{_WORD}(?:(?:\s?/\s?|\s+|-){_WORD})*+))?"
    rf"(?:{_CLOSING}|{_SPACE})*+(?:[.,;:?。、；：！？]|!{{1,3}})?+(?:{_CLOSING}|{_SPACE})*+"
    r"(?:[-—]{0,3}\s?correct\b[.!]?|[✓✔✅☑👍🎉🎯🙂😊\ufe0f]|\s)*+"
)
_LATEX_GROUP = re.compile(r"(?<=\d)(?:\{,\}|,?\\[!,])(?=\d{3}(?!\d))")  # 1{,}000 and 1,\!000
# Flexibly, `1 000` is one number if `000` cannot be one of its own; other groups after a space may well be numbers.
_SPACED = rf"\d{{1,3}}(?:[{_FIXED_SPACES}]\d{{3}})+(?!\d)|\d{{1,3}}(?=(?: \d{{3}}){{0,5}} 0)(?: \d{{3}})+(?!\d)"
# A sign right after a word, a digit, its unit or a closing bracket is a hyphen or an operator: `pages 3-5`, `COVID-19`,
# `5°-7°`, `(8)-5`. One with a space after it is a sign right after the mark and after an equals sign or a bracket.
_HYPHEN = r"(?:(?<=[^\W_]|[)\]}%°¢€£¥₹″′])|(?<=\d[\"'’”$]))[+-]"
_SIGN = r"(?:(?:(?<=[#=(])|(?<=[#=]\s)|(?<=#\s\s)|(?<=#\s\*\*)|(?<=#\s\$\s))[+-]\s|[+-])"
_ANY = re.compile(rf"(?:{_HYPHEN})?{_number(_SPACED, _SIGN)}")


def normalise_number(text: str | None) -> str | None:
    """Return a number's one written form ("1,000.0" gives "1000"), or None if the text is not a number.

    Args:
        text: a number with optional sign, currency, digit groups (1,000 or 1 000), decimals and exponent (5e3).
    """
    match = None if text is None else _WHOLE.fullmatch(text.strip().translate(_ASCII))
    return _written(match) if match else None


def strict_answer(text: str) -> str | None:
    r"""Return the number that follows the first `####` that one follows; None if there is none, or it is only a part.

    The number stands on the line of the mark, at most in Markdown, LaTeX or a currency (`**18**`, `\boxed{18}`, `$18`).
    What follows on the line, up to a further `####`, may close these, and be a unit of a closed list and one mark of
    punctuation. Anything else may make another number of it: `1/2`, `5x`, `2 tripled`, `18 is wrong`.
    """
    text = _LATEX_GROUP.sub(",", text.translate(_ASCII))
    match = _STRICT.search(text)
    if match is None:
        return None
    rest = text[match.end() :].partition("\n")[0].partition("####")[0]
    end = _LINE_END.fullmatch(rest)
    return _written(match) if end and is_unit(end["unit"] or "") else None


def last_number(text: str) -> str | None:
    """Return the last number of a text in its one written form, or None if there is none."""
    last = deque(_ANY.finditer(_LATEX_GROUP.sub(",", text.translate(_ASCII))), maxlen=1)
    return _written(last[0]) if last else None


def cut(text: str, stops: tuple[str, ...]) -> str:
    """Return the text before the first of `stops`; one at the beginning of a line also counts in Markdown's bold."""
    found = [match.start() for match in (_stop(stop).search(text) for stop in stops) if match]
    return text[: min(found, default=len(text))]


@lru_cache(maxsize=64)
def _stop(stop: str) -> re.Pattern[str]:
    r"""Return the pattern of a stop text; of `\nProblem:` also as heading, quotation or in bold: `\n**Problem:**`."""
    line, label = stop[:1], stop[1:].strip()
    if line != "\n" or not label or "\n" in label:
        return re.compile(re.escape(stop))
    colon = r"[*_]{0,3}:" if label.endswith(":") else ""
    return re.compile(rf"\n(?:[*_#>]|[^\S\n]){{0,8}}{re.escape(label.removesuffix(':') if colon else label)}{colon}")


def gold_number(text: str) -> str:
    """Return a gold answer, a number or a solution that ends in `#### number`, in the number's one written form.

    Raises:
        RowError: if there is no such number.
    """
    number = normalise_number(text.rpartition("####")[2])
    if number is None:
        raise RowError(
            f"the gold answer is {shown(text.rpartition('####')[2].strip())}; write a plain number, as 1,000"
        )
    return number


def score_number(text: str, gold: str) -> Score:
    """Score an output against a numeric gold answer. An output without a number is never correct."""
    expected = normalise_number(gold)
    strict, flexible = strict_answer(text), last_number(text)
    return Score(
        answer=strict,
        correct=strict is not None and strict == expected,
        flexible=flexible is not None and flexible == expected,
        valid=strict is not None,
    )


def _written(match: re.Match[str]) -> str:
    """Return the one written form of a matched number: ASCII digits, no superfluous zero, point or sign."""
    negative = "-" in f"{match['inner']}{match['sign']}"
    whole, _, decimals = re.sub(rf"[,'’_ {_FIXED_SPACES}]", "", match["digits"]).partition(".")
    digits = "".join(str(unicodedata.decimal(digit)) for digit in whole + decimals)
    point = len(whole)
    if match["exponent"]:
        size = int("".join(str(unicodedata.decimal(c)) for c in match["exponent"] if c.isdecimal()))
        point += -size if match["exponent"][0] == "-" else size
    if point <= 0:
        digits, point = "0" * (1 - point) + digits, 1
    digits = digits.ljust(point, "0")
    whole, decimals = digits[:point].lstrip("0") or "0", digits[point:].rstrip("0")
    written = f"{whole}.{decimals}" if decimals else whole
    return f"-{written}" if negative and written != "0" else written
