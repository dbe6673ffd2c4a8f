r"""Write one notation for the several that an answer may be typed in: `½` as `\frac{1}{2}`, `1 000` as 1000.

math-verify reads LaTeX as it is typeset. What it does not know it refuses (`√2`, `½`) or reads as something else
(`1 000` as 1 times 0, `2 1/2` as 3/2, `1e5` as 5e), so it is rewritten here first. All patterns take linear time.
"""

import re
import unicodedata
from collections.abc import Callable

from ray_bridge.tasks.end_tokens import INVISIBLE
from ray_bridge.tasks.latex.appearance import without_appearance
from ray_bridge.tasks.latex.environments import without_environments
from ray_bridge.tasks.latex.unit_vectors import components

_COMMANDS = {
    **{"×": r"\times", "⋅": r"\cdot", "·": r"\cdot", "∙": r"\cdot", "∗": "*", "÷": r"\div", "±": r"\pm", "∓": r"\mp"},
    **{"≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "∞": r"\infty", "π": r"\pi", "θ": r"\theta"},
    **{"α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "λ": r"\lambda", "φ": r"\phi", "ω": r"\omega", "∪": r"\cup"},
    **{"∩": r"\cap", "∈": r"\in", "∅": r"\emptyset", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}"},
    **{"ℚ": r"\mathbb{Q}", "∠": r"\angle", "△": r"\triangle", "…": r"\ldots", "°": r"^\circ", "⁄": "/", "∕": "/"},
    **{"′": "'", "’": "'", "％": r"\%", "¢": r"\text{ cents}"},
    **dict.fromkeys("€£¥₹", r"\$"),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe58\ufe63\uff0d", "-"),
    **dict.fromkeys("\u00a0\u2009\u202f\u3000", " "),
    **dict.fromkeys(INVISIBLE, ""),
}
_SYMBOL = re.compile("|".join(map(re.escape, _COMMANDS)))
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ"
_PLAIN = "0123456789+-()n"
_RAISED_RUN, _LOWERED_RUN = re.compile(f"[{_RAISED}]+"), re.compile(f"[{_LOWERED}]+")
_FRACTION_SIGN = re.compile("[¼-¾⅐-⅞]")
_ROOT = re.compile(r"([√∛])\s*(?:\{([^{}]*)\}|\(([^()]*)\)|(\d+(?:\.\d+)?|[a-zA-Z]))")
_TEXT = re.compile(r"\\(?:mbox|hbox|text(?:rm|sf|normal|bf|it|up|sc|tt|sl)|operatorname\*?|mathrm|mathbf)(?=\s*\{)")
_SIZES = re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\.?")
_DOLLAR = re.compile(r"(?<!\\)\$")
_SPACE = r"(?:\\[ ,;:!]|~|\s|\\q?quad(?![a-zA-Z]))"
_GROUPS = re.compile(rf"(?<![\d.,])(\d{{1,3}})((?:(?:{_SPACE}|\{{,\}}|,\\!){{1,2}}\d{{3}})+)(?![\d/]|[.,]\d)")
_MIXED = re.compile(rf"(?<![\d.^_{{}}/])(\d+){_SPACE}{{1,3}}(\d+)\s?/\s?(\d+)(?![\d.])")
# The slash of a fraction before a letter or a bracket ends with it: 1/2x is x/2, as in program code.
_COEFFICIENT = re.compile(r"(?<![\w.)}^_/])(\d+)\s?/\s?(\d+)(?=\s?(?:[a-zA-Z(]|\\[a-zA-Z]))")
# A number before brackets is a factor: math-verify reads `3(4)` as 3 + 4, a mixed number.
_FACTOR = re.compile(r"(?<![_^\w{\\.])(\d+(?:\.\d+)?)\s?(?=\([^(),;]*\))|(?<=\d\))\s?(?=\([^(),;]*\))")
_SCIENTIFIC = re.compile(r"(?<![\w.\\}])(\d+(?:\.\d+)?)[eE](\+?\d{1,3}|-\d{2,3})(?![\d.])")
_SCIENTIFIC_DECIMAL = re.compile(r"(?<![\w.\\}])(\d+\.\d+)[eE](-\d)(?![\d.])")
_REPEATING = re.compile(
    r"(\d{0,100})\.(\d{0,100})(?:\\(?:overline|bar)\s?\{?(?P<line>\d{1,100})(?!\d)\}?|\\dot\s?\{?(?P<dot>\d)\}?"
    r"(?:(?P<between>\d{0,50})\\dot\s?\{?(?P<last>\d)\}?)?|\((?P<bracket>\d{1,100})\))"
)
_DEGREES = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\s|\{|\()*)(\d+(?:\.\d+)?)\s?\^\s?(?:\{\s?\\circ\s?\}|\\circ)(?![a-zA-Z])"
)
_CIS = re.compile(
    r"(?:\\text\s?\{\s?cis\s?\}|(?<![a-zA-Z])\\?cis(?![a-zA-Z]))(?:\s|\\[ ,;:!])*"
    r"(?:\((?P<bracket>[^()]{1,60})\)|(?P<angle>(?:\\frac\s?\{[^{}]*\}\s?\{[^{}]*\}|\\pi(?![a-zA-Z])|\d+(?:\.\d+)?"
    r"|\^\s?\{?\s?\\circ\s?\}?|[-/]|\s|\\[a-z]{2,6}(?![a-zA-Z])|[a-z](?![a-z])){1,20}))"
)
_SAMES = {
    "varnothing": r"\emptyset",
    "bigcup": r"\cup",
    "bigcap": r"\cap",
    "langle": "(",
    "rangle": ")",
    "lbrace": r"\{",
    "rbrace": r"\}",
}
_SAME = re.compile(rf"\\({'|'.join(_SAMES)})(?![a-zA-Z])")
_TEXT_WITH_DIGITS = re.compile(r"\\text\s?\{\s?(\(?[-+]?(?:\\?\$)?\d[^{}]*|[A-F\d]*\d[A-F\d]*)\}")
_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MILLIONS = re.compile(rf"(?<=[\d}}])\s?(\\text\s?\{{)?\s?({'|'.join(_POWERS)})(?![a-zA-Z])(\s?\}}?)")
_FRACTION_POWER = re.compile(r"\^\s?(\\[dtc]?frac\s?(?:\{[^{}]*\}|\d)\s?(?:\{[^{}]*\}|\d))")
_BARE_FRACTION = re.compile(
    r"\\[dtc]?frac\s?(\\[a-zA-Z]+(?![a-zA-Z{])|[a-zA-Z])\s?(?:\{([^{}]*)\}|(\\[a-zA-Z]+(?![a-zA-Z{])|[0-9a-zA-Z]))"
)
_TRAILING = re.compile(r"(?:\\\\|\\(?:[ ,;:!]|$)|(?<!\\)[\s.,;:])+$")
_BARE_ROOT = re.compile(r"\\sqrt\s?(\[[^\[\]]{1,3}\])\s?(\d|[a-zA-Z](?![a-zA-Z]))")
_INFIX = re.compile(r"\\(over|choose)(?![a-zA-Z])")
_NO_SOLUTION = (
    r"(?:there\s(?:is|are)\s)?no(?:\s(?:real|integer|such|possible))?\s(?:solution|value|root)s?(?:\sexists?)?|none"
)
_LABEL = r"(?:point|option|choice|graph|figure|letter|statement)"
_REWRITTEN: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?:\\text\s?\{\s?|(?<=\d)\s)per\s?cent\s?\}?$"), r"\\%"),
    (re.compile(r"\{\s?:\s?\}|\s?\\colon(?![a-zA-Z])\s?"), ":"),
    (re.compile(r"\\not\s?="), r"\\ne "),
    (re.compile(r"\\lg(?![a-zA-Z])"), r"\\log_{10}"),
    (re.compile(r"\\log\s?_\s?(?:e(?![a-zA-Z])|\{\s?e\s?\})"), r"\\ln "),
    (re.compile(r"(?<=\d)\s?\^\s?\{?\s?(?:\\text\s?\{\s?)?(st|nd|rd|th)(?:\s?\}){1,2}"), r"\\text{\1}"),
    (re.compile(r"\\sqrt\s?\[\s?([3579])\s?\]\s?\{\s?-([^{}+-]*)\}"), r"-\\sqrt[\1]{\2}"),
    (re.compile(r"\\pmod\s?(\d+)"), r"\\pmod{\1}"),
    (re.compile(r"\(\s?(?:\\text\s?\{\s?mod\s?\}|\\b?mod(?![a-z])|mod)\s?(\d+|[a-z])\s?\)$"), r"\\pmod{\1}"),
    (re.compile(r"(?<=\d)(?:~|\\[,;:])(?=\s?[a-zA-Z])"), " "),
    (re.compile(r"\\[cd]?dots[cb]?(?![a-zA-Z])|\.\.\."), r"\\ldots "),
    (re.compile(r"(?<=[\d}])\s?\(\s?(\\text\s?\{[^{}]*\})\s?\)$"), r"\1"),
    (re.compile(r"\\ang\s?\{([^{}]*)\}|(?<=[\d}])\^\s?(?:\{\s?o\s?\}|o(?![a-zA-Z]))"), r"\1^\\circ"),
    (re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ)\s?(?:\\text\s?\{\s?)?([CF])\s?\}?$"), r"\\text{ degree\1}"),
    (re.compile(r"^USD?\s?(?:\\\$)?\s?(?=\d)"), r"\\$"),
    (re.compile(r"\(\s?\\begin\{array\}\s?\{[^{}]*\}(.*?)\\end\{array\}\s?\)"), r"\\begin{pmatrix}\1\\end{pmatrix}"),
    (re.compile(r"\[\s?\\begin\{array\}\s?\{[^{}]*\}(.*?)\\end\{array\}\s?\]"), r"\\begin{bmatrix}\1\\end{bmatrix}"),
    (re.compile(r"\|\s?\\begin\{array\}\s?\{[^{}]*\}(.*?)\\end\{array\}\s?\|"), r"\\begin{vmatrix}\1\\end{vmatrix}"),
    (re.compile(r"\\(begin|end)\{p?smallmatrix\}"), r"\\\1{pmatrix}"),
    (
        re.compile(r"\\[dt]?frac\s?\{\s?\\text\s?\{([^{}]*)\}\s?\}\s?\{\s?\\text\s?\{([^{}]*)\}\s?\}"),
        lambda m: rf"\text{{ {m[1].strip()}/{m[2].strip()}}}",
    ),
    # Words before the value: `\text{The answer is } 5`, `\text{Point }B`.
    (
        re.compile(
            r"^\\text\s?\{(?![^{}]*\b(?:not|no|never|false|wrong|incorrect|except|cannot)\b)[^{}]*(?:\b(?:is|are|equals|be)|[=:])\s?\}\s?(?=\S)"
        ),
        "",
    ),
    (re.compile(r"^(?:[Tt]he\s)?(?:final\s)?[Aa]nswer(?:\sis|:)\s"), ""),
    (re.compile(rf"^\\text\s?\{{\s?(?:the\s)?{_LABEL}\s?\}}\s?(?=[A-Z]\b)", re.IGNORECASE), ""),
    (re.compile(rf"^\\text\s?\{{\s?(?:the\s)?{_LABEL}\s(\(?[A-Z]\)?)\s?\}}$", re.IGNORECASE), r"\\text{\1}"),
    (re.compile(rf"^(?:\\text\s?\{{)?\s?(?:{_NO_SOLUTION})\s?\}}?$", re.IGNORECASE), r"\\emptyset"),
    (
        re.compile(r"^(?:\\text\s?\{)?\s?(?:all\s)?(?:the\s)?reals?(?: numbers)?\s?\}?$", re.IGNORECASE),
        r"\\mathbb{R}",
    ),
)
_BLACKBOARD = re.compile(r"\\(?:mathbb|Bbb)\s?(?:\{\s?([RZNQC])\s?\}|([RZNQC])(?![a-zA-Z]))|\\([RZNQ])(?![a-zA-Z])")
_IMPLIES = re.compile(r"(?:\\(?:Rightarrow|Longrightarrow|implies|therefore)(?![a-zA-Z])|[⇒∴])(?=[^⇒\\]*\w)")
_VERTICES = re.compile(r"\\(angle|triangle)\s?(?:\{\s?([A-Z]{2,3})\s?\}|([A-Z]{3}))(?![A-Za-z])")
_SEGMENT = re.compile(r"\\overline\s?\{\s?([A-Z]{2})\s?\}")


def standard(text: str) -> str:
    """Return an answer in one notation: spaces, brackets' sizes and dollar signs dropped, signs written as LaTeX."""
    text = _BLACKBOARD.sub(lambda m: rf"\mathbb{{{m[1] or m[2] or m[3]}}}", plain_signs(text))
    text = _SIZES.sub("", _DOLLAR.sub("", _TEXT.sub(r"\\text", without_appearance(components(text)))))
    text = _IMPLIES.split(text)[-1]
    text = " ".join(_SAME.sub(lambda m: _SAMES[m[1]], text).split())
    for pattern, written in _REWRITTEN:
        text = pattern.sub(written, text)
    text = without_environments(text)
    if whole := _TEXT_WITH_DIGITS.fullmatch(text):
        text = whole[1].strip()
    text = _GROUPS.sub(lambda m: m[1] + re.sub(r"\D", "", m[2]), text)
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    text = _COEFFICIENT.sub(r"\\frac{\1}{\2}", text)
    for pattern in (_SCIENTIFIC, _SCIENTIFIC_DECIMAL):
        text = pattern.sub(lambda m: rf"{m[1]}\times 10^{{{int(m[2])}}}", text)
    text = _MILLIONS.sub(lambda m: rf"\times 10^{{{_POWERS[m[2]]}}}{m[1] or ''}{m[3]}", text)
    text = _FACTOR.sub(lambda m: (m[1] or "") + r"\cdot ", _REPEATING.sub(_repeating, text))
    text = _BARE_FRACTION.sub(lambda m: rf"\frac{{{m[1]}}}{{{(m[2] or m[3]).strip()}}}", text)
    text = _BARE_ROOT.sub(r"\\sqrt\1{\2}", text)
    text = _FRACTION_POWER.sub(r"^{\1}", text)
    text = _DEGREES.sub(r"\1\\frac{\2\\pi}{180}", text)
    text = _SEGMENT.sub(lambda m: min(m[1], m[1][::-1]), text)
    text = _VERTICES.sub(_figure, _CIS.sub(_exponential, text))
    return _TRAILING.sub("", _infix(text)).removeprefix("=").strip()


def plain_signs(text: str) -> str:
    """Return a text with mathematical signs beyond ASCII written as LaTeX; words stay as they are."""
    if text.isascii():
        return text
    text = _FRACTION_SIGN.sub(_fraction, text)
    text = "".join(unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff5e" else c for c in text)
    text = _RAISED_RUN.sub(lambda m: f"^{{{m[0].translate(str.maketrans(_RAISED, _PLAIN))}}}", text)
    text = _LOWERED_RUN.sub(lambda m: f"_{{{m[0].translate(str.maketrans(_LOWERED, _PLAIN))}}}", text)
    text = _SYMBOL.sub(lambda m: _spaced(_COMMANDS[m[0]], text, m.end()), text)
    return _ROOT.sub(lambda m: rf"\sqrt{'[3]' if m[1] == '∛' else ''}{{{m[2] or m[3] or m[4] or ''}}}", text)


def _fraction(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).partition("\N{FRACTION SLASH}")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _spaced(command: str, text: str, end: int) -> str:
    """Return a command with a space after it if a letter follows, which would be read as part of its name."""
    return f"{command} " if command[-1:].isalpha() and text[end : end + 1].isalpha() else command


def _repeating(match: re.Match[str]) -> str:
    r"""Return the fraction of a decimal that repeats: `0.1\overline{6}` is (16 - 1) / 90."""
    whole, fixed = match[1] or "0", match[2]
    group = match["line"] or match["bracket"] or match["dot"] + (match["between"] or "") + (match["last"] or "")
    top = int(whole + fixed + group) - int(whole + fixed)
    return rf"\frac{{{top}}}{{{(10 ** len(group) - 1) * 10 ** len(fixed)}}}"


def _figure(match: re.Match[str]) -> str:
    """Return one name of an angle or a triangle: the same reversed, and a triangle in any order."""
    points = match[2] or match[3]
    other = "".join(sorted(points)) if match[1] == "triangle" else points[::-1]
    return rf"\text{{{match[1]} {min(points, other)}}}"


def _exponential(match: re.Match[str]) -> str:
    r"""Return `\text{cis}` of an angle, in degrees or not, as a power of e."""
    angle = match["bracket"] or match["angle"]
    radians = re.sub(r"\^\s?\{?\s?\\circ\s?\}?", "", angle).strip()
    return rf"e^{{i\cdot({radians})\cdot\pi/180}}" if r"\circ" in angle else rf"e^{{i\cdot({radians})}}"


def _infix(text: str) -> str:
    r"""Return a text with `{a \over b}` as `\frac{a}{b}` and `{a \choose b}` as `\binom{a}{b}`, a few of them."""
    for _ in range(8):
        match = _INFIX.search(text)
        if match is None:
            return text
        start, end = _enclosing(text, match)
        command = r"\frac" if match[1] == "over" else r"\binom"
        written = f"{command}{{{text[start : match.start()].strip()}}}{{{text[match.end() : end].strip()}}}"
        text = text[:start] + written + text[end:]
    return text


def _enclosing(text: str, match: re.Match[str]) -> tuple[int, int]:
    """Return where the group begins and ends in which a match stands."""
    depth, start = 0, match.start()
    while start > 0 and (depth := depth + {"{": -1, "}": 1}.get(text[start - 1], 0)) >= 0:
        start -= 1
    depth, end = 0, match.end()
    while end < len(text) and (depth := depth + {"{": 1, "}": -1}.get(text[end], 0)) >= 0:
        end += 1
    return start, end
