r"""Find the answer that a text boxes: `\boxed{...}`, `\fbox{...}` or `\boxed 7`."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is a character of the answer
_UNBRACED = re.compile(r"(?:\\(?!boxed|fbox)|[^\s$\\])+")
# What may stand between boxes that are one answer together, as in `x = \boxed{3}$ or $x = \boxed{5}`;
# `\boxed{1} or rather \boxed{2}` corrects itself.
_SEPARATOR = re.compile(
    r"(?:[\s$~]|\\[()\[\], ]|\\q?quad)*"
    r"(?:,|;|(?:,\s*)?(?:\\text\s*\{\s*)?(?:and|or)\b(?:\s*\})?)"
    r"(?:[\s$~]|\\[()\[\], ]|\\q?quad)*"
    r"(?:(?:[a-zA-Z]|\\[a-z]{2,8})(?:_\{?\w\}?)?\s?=\s?)?"
)


def boxed_answer(text: str) -> str | None:
    r"""Return what the last `\boxed{...}`, `\fbox{...}` or `\boxed 7` of a text holds, or None.

    Boxes that only a comma, a semicolon, "and" or "or" separates are one answer: `\boxed{3}, \boxed{5}` is `3,5`.
    """
    ends = _closing_braces(text)
    boxes: list[tuple[int, int, str]] = []  # begin, end, content
    for match in reversed(list(_BOX.finditer(text))):
        box = _content(text, match, ends)
        if box is None and not boxes:
            return None
        if box is None or (boxes and not _SEPARATOR.fullmatch(text, box[1], boxes[-1][0])):
            break
        boxes.append(box)
    contents = dict.fromkeys(content for _, _, content in reversed(boxes))  # the same answer twice is one
    return ",".join(contents) if contents else None


def _content(text: str, match: re.Match[str], ends: dict[int, int]) -> tuple[int, int, str] | None:
    if text[match.end() : match.end() + 1] == "{":
        end = ends.get(match.end())
        return None if end is None else (match.start(), end + 1, text[match.end() + 1 : end].strip())
    bare = _UNBRACED.match(text, match.end())
    content = bare[0].rstrip(".,;:") if bare else ""
    return (match.start(), match.end() + len(content), content) if content else None


def _closing_braces(text: str) -> dict[int, int]:
    """Return the place of the closing brace of each opening one that is closed."""
    opened, ends = [], {}
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            ends[opened.pop()] = match.start()
    return ends
