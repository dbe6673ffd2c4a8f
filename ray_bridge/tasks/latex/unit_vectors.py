r"""Write a vector of unit vectors as the tuple of its components: `3\mathbf{i}-\mathbf{j}` is `(3,-1)`."""

import re

_UNIT = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|hat|vec|overrightarrow|widehat)"
    r"(?:\s?\{\s?(?:\\(?:mathbf|boldsymbol|bm|hat|vec)\s?\{?\s?)?\\?(?P<name>[ijk]|imath|jmath)\s?\}{1,2}"
    r"|\s+\\?(?P<bare>[ijk]|imath|jmath)(?![a-zA-Z]))"
)
_SIGN = re.compile(r"[+-]|[({\[]|[)}\]]")
_MOST = 400  # characters


def components(text: str) -> str:
    r"""Return a sum of multiples of unit vectors as a tuple; any other text as it is.

    One of which only the first is named, as `3\mathbf{i}`, stays: it may be of two or of three dimensions.
    """
    if len(text) > _MOST or not _UNIT.search(text):
        return text
    name, equals, vector = text.rpartition("=")
    found: dict[str, str] = {}
    for term in _terms(vector):
        units = list(_UNIT.finditer(term))
        axis = (units[0]["name"] or units[0]["bare"])[0] if units else ""
        if len(units) != 1 or term[units[0].end() :].strip(" $.") or axis in found:
            return text
        found[axis] = _coefficient(term[: units[0].start()].strip(" $"))
    if not found.keys() & {"j", "k"}:
        return text
    values = ",".join(found.get(axis, "0") for axis in ("ijk" if "k" in found else "ij"))
    return f"{name}{equals}({values})"


def _coefficient(written: str) -> str:
    bare = written.removeprefix("+").strip()
    return f"{bare}1" if bare in ("", "-") else bare


def _terms(text: str) -> list[str]:
    """Return the terms of a sum, each with its sign; a sign in brackets divides nothing."""
    depth, begins = 0, [0]
    for match in _SIGN.finditer(text):
        depth += (match[0] in "({[") - (match[0] in ")}]")
        if match[0] in "+-" and depth == 0 and text[: match.start()].strip(" $"):
            begins.append(match.start())
    return [text[begin:end] for begin, end in zip(begins, [*begins[1:], len(text)], strict=True)]
