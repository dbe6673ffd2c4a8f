r"""Write systems and piecewise functions without their environments: `\begin{cases}x=1\\y=2\end{cases}` is `x=1, y=2`.

Rows are values or equations of a list; a row of `cases` with a condition becomes a pair of value and condition, and the
function the set of its pairs. Matrices, and arrays between brackets, stay as they are.
"""

import re

_SYSTEM = r"aligned|align\*?|alignedat|gathered|gather\*?|split|eqnarray\*?|dcases|rcases|cases|array|equation\*?"
_ENVIRONMENT = re.compile(
    rf"(?P<brace>\\\{{\s?)?\\begin\s?\{{(?P<name>{_SYSTEM})\}}\s?(?:\[[^\[\]]{{0,3}}\])?(?P<columns>\{{[^{{}}]{{0,60}}\}})?"
    r"(?P<rows>(?:[^\\]|\\(?!begin|end))*)\\end\s?\{(?P=name)\}"
)
_ROW = re.compile(r"\\\\(?:\s?\[[^\[\]]{1,12}\])?|\\newline(?![a-zA-Z])")
_RULE = re.compile(r"\\(?:hline|cline\s?\{[^{}]*\}|quad|qquad|nonumber|notag)(?![a-zA-Z])")
_RELATION = r"(?:[<>=]|\\(?:leq?|geq?|lt|gt|neq?|approx|equiv|in)(?![a-zA-Z]))"
_BEGINS_WITH_RELATION = re.compile(rf"\s*{_RELATION}")
_HOLDS_RELATION = re.compile(_RELATION)
_SPACES = r"(?:\s|\\[ ,;:!]|\\q?quad(?![a-zA-Z])|~)*"
_EDGES = re.compile(rf"^{_SPACES}|[,;.]?{_SPACES}$")
_IF = re.compile(r"\\text\s?\{\s*(?:if|for|when|where|on)(?:\s*\}\s*|\s+([^{}]*)\}$)")
_NAME = re.compile(r"[a-zA-Z]\s?(?:\(\s?[a-zA-Z]\s?\))?\s?=\s?")


def without_environments(text: str) -> str:
    """Return an answer with systems of equations as lists, and piecewise functions as sets of value and condition."""
    if r"\begin" not in text:
        return text
    name = _NAME.match(text)
    whole = _ENVIRONMENT.fullmatch(text, name.end() if name else 0)
    if whole is None or (pairs := _pairs(whole)) is None:
        return _ENVIRONMENT.sub(lambda m: _system(m) or m[0], text)
    return r"\{" + ", ".join(f"({value}, {condition})" for value, condition in pairs) + r"\}"


def _pairs(match: re.Match[str]) -> list[tuple[str, str]] | None:
    """Return value and condition of each row of a piecewise function; None if it is none."""
    if "cases" not in match["name"] and not match["brace"]:
        return None
    rows = [[_trimmed(cell) for cell in row.split("&")] for row in _rows(match)]
    if not rows or any(len(row) != 2 or not all(row) or _BEGINS_WITH_RELATION.match(row[1]) for row in rows):
        return None
    return [(value, _condition(text)) for value, text in rows]


def _condition(text: str) -> str:
    match = _IF.match(text)
    return text if match is None else match[1] or text[match.end() :].strip()


def _system(match: re.Match[str]) -> str | None:
    """Return the rows as a list, a row that begins with a relation as the end of the one before; None for a table."""
    parts: list[str] = []
    for row in _rows(match):
        cells = [cell for cell in map(_trimmed, row.split("&")) if cell]
        line = _trimmed("".join(cells) if len(cells) < 2 or _HOLDS_RELATION.search(row) else "&".join(cells))
        if "&" in line:
            return None
        if parts and _BEGINS_WITH_RELATION.match(line):
            parts[-1] += line
        else:
            parts.append(line)
    return ", ".join(parts)


def _rows(match: re.Match[str]) -> list[str]:
    rows = (_RULE.sub(" ", row) for row in _ROW.split(match["rows"]))
    return [row for row in rows if row.strip()]


def _trimmed(cell: str) -> str:
    return _EDGES.sub("", cell.strip())
