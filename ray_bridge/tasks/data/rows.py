"""A row of a data set with its place, checks of its fields, and the way from rows to examples."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge_common.errors import UserError
from ray_bridge.tasks.task import Example

_SHOWN = 5  # rows that a message names


class RowError(ValueError):
    """A row that cannot become an example; the message says why, without the place."""


class UnusableRowError(RowError):
    """A row without a usable answer, of which a data set may hold a few."""


@dataclass(frozen=True, kw_only=True)
class DataRow:
    """One row.

    Attributes:
        fields: its values by name.
        file: where it comes from: a file, a folder with its split, or a name on the hub.
        place: what the row is called there, e.g. "line 3" or "row 3", counted from 1.
    """

    fields: Mapping[str, Any]
    file: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The examples of a split.

    Attributes:
        examples: one for each usable row; their index counts all rows.
        skipped: one line on rows that were left out, or None.
    """

    examples: list[Example]
    skipped: str | None


def load_examples(rows: Iterable[DataRow], make: Callable[[DataRow, int], Example], unusable: float) -> Loaded:
    """Make an example of each row.

    Args:
        rows: rows of one split, in order.
        make: makes the example of a row, given its index; raises `RowError`.
        unusable: largest share of rows without a usable answer that are left out.

    Raises:
        UserError: in one line with file, row and remedy, for a faulty row, too many unusable ones, or no rows at all.
    """
    examples: list[Example] = []
    skipped: list[str] = []
    first, count, file = "", 0, ""
    for index, row in enumerate(rows):
        count, file = index + 1, row.file
        try:
            examples.append(make(row, index))
        except UnusableRowError as error:
            skipped.append(row.place)
            first = first or f"{row.file}, {row.place}: {error}"
        except RowError as error:
            raise UserError(f"{row.file}, {row.place}: {error}") from error
    if not skipped:
        return Loaded(examples=examples, skipped=None)
    if len(skipped) > unusable * count:
        total = f"; {len(skipped)} of {count} rows are like that, at most {unusable:.0%} may be" if count > 1 else ""
        raise UserError(f"{first}{total}")
    named = ", ".join(skipped[:_SHOWN]) + (", ..." if len(skipped) > _SHOWN else "")
    return Loaded(
        examples=examples, skipped=f"{file}: {len(skipped)} of {count} rows have no usable answer, left out ({named})"
    )


def text_field(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that must hold text.

    Raises:
        RowError: if it is missing, empty, or something else than text.
    """
    value = field(fields, name)
    if not isinstance(value, str):
        raise RowError(f"{name} is {shown(value)}; text in quotes is expected")
    if not value.strip():
        raise RowError(f"{name} is empty; fill it in, or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(f"{name} holds half a surrogate pair; write the character itself, in UTF-8") from None
    return value


def field(fields: Mapping[str, Any], name: str) -> Any:
    """Return a field by its name, or by a path of names as in `choices.text`.

    Raises:
        RowError: if there is no such field.
    """
    if name in fields:
        return fields[name]
    value: Any = fields
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            there = ", ".join(map(str, fields)) or "none"
            raise RowError(f"no field {name}; the row has {there}")
        value = value[part]
    return value


def shown(value: Any) -> str:
    """Return a value as it stands in JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
