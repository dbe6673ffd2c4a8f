"""A row of a data set with its place, checks of its fields, and the way from rows to examples."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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


def kept_rows(rows: Iterator[DataRow], keep: Mapping[str, str], *, may_lack: bool) -> Iterator[DataRow]:
    """Return the rows whose fields have the values of a mapping's `keep`.

    Args:
        rows: of one split.
        keep: values by field.
        may_lack: whether a data set may do without a field, as one for training may that is not the one of the test.

    Raises:
        UserError: in one line, if no row has a field, or none of them its value.
    """
    met: dict[str, Counter[str]] = {name: Counter() for name in keep}
    kept, file = 0, ""
    for row in rows:
        file = row.file
        values = {name: str(row.fields[name]) for name in keep if name in row.fields}
        for name, value in values.items():
            met[name][value] += 1
        if all(value == keep[name] for name, value in values.items()):
            kept += 1
            yield row
    lacking = [name for name in keep if file and not met[name]]
    if lacking and not may_lack:
        raise UserError(f"{file}: keep names the field {lacking[0]}, which no row has: correct the mapping's keep")
    if file and not kept:
        values_of = {name: [shown(value) for value, _ in met[name].most_common(4)] for name in keep if met[name]}
        said = "; ".join(f"{name} is {', '.join(values)}" for name, values in values_of.items())
        raise UserError(f"{file}: no row has what keep asks for ({said}): correct the mapping's keep")


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
    return whole_text(value, name)


def whole_text(value: str, name: str) -> str:
    """Return a text that can be written in UTF-8.

    Raises:
        RowError: if it holds half a surrogate pair, which JSON can.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(f"{name} holds half a surrogate pair; write the character itself, in UTF-8") from None
    return value


def group_field(fields: Mapping[str, Any], name: str) -> str:
    """Return a field under whose values accuracy is reported separately.

    Raises:
        RowError: if it is missing, or neither text nor a number nor true or false.
    """
    value = field(fields, name)
    if not isinstance(value, str | int | float):
        raise RowError(f"{name} is {shown(value)}; text or a number is expected, as accuracy is reported by it")
    return whole_text(str(value), name)


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
    """Return a value as it stands in JSON, shortened; half a surrogate pair is escaped, so that it can be printed."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
