"""HTML from plain values: all that is not HTML already is escaped, so no text of a model can become markup."""

import html as escaping
from collections.abc import Iterable, Sequence
from typing import Any

from bridge_common.visible_text import visible


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: Any) -> Html:
    """Return a value as HTML; text is escaped, HTML stays, None is nothing."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else escaping.escape(visible(str(value))))


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """Return an element.

    Args:
        name: its name.
        children: values that `escape` takes.
        attributes: by name; `class_` is class, an underscore is a hyphen; None and False leave an attribute out, True
            gives it without a value.
    """
    parts = [name]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(attribute)
        elif value is not None and value is not False:
            parts.append(f'{attribute}="{escaping.escape(visible(str(value)))}"')
    return Html(f"<{' '.join(parts)}>{join(children)}</{name}>")


def join(children: Iterable[Any]) -> Html:
    """Return several values as HTML, one after the other."""
    return Html("".join(map(escape, children)))


def items(values: Sequence[Any], class_: str | None = None) -> Html:
    """Return a list, or nothing if it would be empty."""
    return tag("ul", *(tag("li", value) for value in values), class_=class_) if values else Html("")


def table(caption: str, header: Sequence[Any], rows: Iterable[Sequence[Any]], class_: str = "") -> Html:
    """Return a table that scrolls sideways where it does not fit; the first cell of a row heads the row.

    Args:
        caption: what the table shows, for screen readers.
        header: one value a column.
        rows: cells.
        class_: class of the table.
    """
    head = tag("thead", tag("tr", *(tag("th", value, scope="col") for value in header)))
    body = tag("tbody", *(tag("tr", _first(row[0]), *(tag("td", value) for value in row[1:])) for row in rows))
    caption_ = tag("caption", caption, class_="unseen")
    inner = tag("table", caption_, head, body, class_=class_ or None)
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _first(value: Any) -> Html:
    return tag("th", value, scope="row")
