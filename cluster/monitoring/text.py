"""How the command line writes: whole at 80 columns, and accuracies as percent with their intervals."""

import textwrap

from bridge_common.intervals import wilson
from bridge_common.visible_text import visible

WIDTH = 80
_KEPT = "\ue000"  # a space at which no line is broken; Unicode leaves this character to programs


def wrapped(line: str, indent: str = "  ", width: int = WIDTH) -> str:
    """Break a line at spaces so that nothing is wider than `width`, except words, such as paths, that are wider."""
    line = visible(line)
    if len(line) <= width:
        return line.replace(_KEPT, " ")
    parts = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(parts).replace(_KEPT, " ")


def unbroken(text: object) -> str:
    """Return a path, or a command with one, so that `wrapped` leaves it on one line, to be copied."""
    return str(text).replace(" ", _KEPT)


def accuracy_in_words(accuracy: float, n: int | None) -> str:
    """Return an accuracy in percent, with its 95 % Wilson interval if the number of items is known."""
    if not n:
        return f"{accuracy:.1%}"
    low, high = wilson(accuracy * n, n)
    return f"{accuracy:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
