r"""Several intervals or inequalities as one union: `x<2 \text{ or } x>5` is `(-\infty,2)\cup(5,\infty)`."""

import re

from ray_bridge.tasks.latex.structure import Answer

_ORDER = re.compile(r"\s?(<=|>=|<|>|\\(?:leqslant|geqslant|leq|geq|le|ge|lt|gt)(?![a-zA-Z]))\s?")
_LESS = {"<": "<", r"\lt": "<", "<=": "<=", r"\le": "<=", r"\leq": "<=", r"\leqslant": "<="}
_GREATER = {">": "<", r"\gt": "<", ">=": "<=", r"\ge": "<=", r"\geq": "<=", r"\geqslant": "<="}
_VARIABLE = re.compile(r"[a-zA-Z]|\\(?:alpha|beta|theta|lambda|mu|phi)")
_BOTH_HOLD = re.compile(r"(?<![a-zA-Z])and(?![a-zA-Z])|\\(?:wedge|land|cap)(?![a-zA-Z])")


def together(several: Answer) -> str | None:
    """Return a list of intervals and inequalities as their union, or two that are both to hold as one interval.

    None if it is another list.
    """
    parts = [interval(item) for item in several.items]
    if _BOTH_HOLD.search(several.text):
        low = [part for part in parts if part and part.endswith(r",\infty)")]
        high = [part for part in parts if part and part.startswith(r"(-\infty,")]
        if len(parts) == 2 and len(low) == len(high) == 1:
            return low[0].removesuffix(r"\infty)") + high[0].removeprefix(r"(-\infty,")
        return None
    return r"\cup".join(part for part in parts if part) if all(parts) else None


def interval(item: Answer) -> str | None:
    """Return an interval, or an inequality of one variable, in the notation of intervals; None if it is neither."""
    if item.shape == "bracketed":
        return item.text if len(item.items) == 2 else None
    terms = _ORDER.split(item.text)
    if len(terms) not in (3, 5) or not all(terms):
        return None
    if any(sign in _GREATER for sign in terms[1::2]):
        terms.reverse()
    signs = [(_GREATER if sign in _GREATER else _LESS)[sign] for sign in terms[1::2]]
    mixed = len({sign in _GREATER for sign in terms[1::2]}) > 1
    if mixed:
        return None
    if len(terms) == 5:
        low, variable, high = terms[::2]
        left, right = signs
    elif _VARIABLE.fullmatch(terms[0]):
        (variable, high), low = terms[::2], r"-\infty"
        left, right = "<", signs[0]
    else:
        (low, variable), high = terms[::2], r"\infty"
        left, right = signs[0], "<"
    if not _VARIABLE.fullmatch(variable):
        return None
    return f"{'[' if left == '<=' else '('}{low},{high}{']' if right == '<=' else ')'}"
