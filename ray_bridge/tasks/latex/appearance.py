r"""Drop what changes only how LaTeX looks: `{\color{red}18}`, `\bf 18`, `\boldsymbol{18}` and `6\!:\!00` are plain."""

import re

_ARGUMENT = r"\s?\{[^{}]*\}"
_DROPPED = re.compile(
    rf"\\(?:color|pagecolor)\s?(?:\[[^\[\]]*\])?{_ARGUMENT}"
    rf"|\\(?:textcolor|colorbox)\s?(?:\[[^\[\]]*\])?{_ARGUMENT}(?=\s?\{{)"
    rf"|\\(?:hspace|vspace|phantom|hphantom|vphantom|label|tag)\*?{_ARGUMENT}"
    r"|\\(?:bf|rm|it|sf|tt|sl|em|cal|bfseries|itshape|mdseries|boldmath|unboldmath|normalfont|normalsize|tiny|small|large"
    r"|Large|LARGE|huge|Huge|displaystyle|textstyle|scriptstyle|scriptscriptstyle|limits|nolimits|strut|mathstrut"
    r"|nonumber|notag|hfill|hfil|noindent|nobreak|allowbreak|centering|relax)(?![a-zA-Z])"
    # Commands whose argument stays, in its braces.
    r"|\\(?:boldsymbol|bm|pmb|mathit|mathnormal|mathsf|mathtt|underline|ensuremath|mathop|mathord|mathrel|mathbin|emph"
    r"|uline|textcolor|smash)(?![a-zA-Z])(?=\s?\{)"
    r"|\\math(?:bf|rm)(?=\s?\{[^{}a-zA-Z]*\})"
    r"|(?<!,)\\!|\\/"
)
_LETTER = re.compile(
    r"\\(?:boldsymbol|bm|pmb|mathit|mathnormal|mathbf|vec)(?:\s?\{\s?([a-zA-Z])\s?\}|\s+([a-zA-Z])(?![a-zA-Z]))"
)
_SIGN_IN_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textrm)\s?\{\s?(\\[$%]|\^?\\circ)\s?\}")
_ROMAN = re.compile(r"\{\s?\\rm(?![a-zA-Z])(?:\s|\\[ ,;:]|~){0,3}([a-zA-Z. ]+)\}|\\rm\s?\{([a-zA-Z. ]+)\}")
_NESTED = re.compile(r"\\(?:text|mbox|mathrm)\s?\{\s?(\\text\s?\{[^{}]*\})\s?\}")
_EMPTY = re.compile(r"(?<![\\a-zA-Z}\])^_])\{\s*\}|\\text\s?\{\s*\}")
_SPACES = re.compile(r"\\(?:thinspace|enspace|medspace|thickspace|negthinspace|space)(?![a-zA-Z])")


def without_appearance(text: str) -> str:
    """Return LaTeX without colours, fonts, sizes, invisible text and spacing that stands for nothing."""
    if "\\" not in text and "{}" not in text:
        return text
    text = _ROMAN.sub(lambda m: rf"\text{{{m[1] or m[2]}}}", text)
    text = _NESTED.sub(r"\1", text)
    text = _SIGN_IN_TEXT.sub(r"\1", _LETTER.sub(r" \1\2", text))
    return _EMPTY.sub(" ", _SPACES.sub(" ", _DROPPED.sub("", text)))
