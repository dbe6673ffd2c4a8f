"""Rows of JSONL files, each fault of which is one line with file, line and remedy."""

import codecs
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from bridge_common.errors import UserError
from bridge_common.user_files import lines_of, open_file
from ray_bridge.tasks.data.rows import DataRow

_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_DIGITS = 4_300  # of a longest integer that Python reads and writes


class WrittenFloat(float):
    """A number of JSON with a point or an exponent, which `str` returns as it is written: a float has 17 digits of it.

    Attributes:
        written: the number's text in the file.
    """

    written: str

    def __new__(cls, written: str) -> Self:
        """Make the number of a text."""
        number = super().__new__(cls, written)
        number.written = written
        return number

    def __str__(self) -> str:
        return self.written


def json_lines(file: Path) -> Iterator[DataRow]:
    """Read the rows of a JSONL file in UTF-8, with or without a byte order mark; lines end in LF, CRLF or CR.

    Raises:
        UserError: if the file is not readable, empty, or in another encoding, or a line is no JSON object.
    """
    empty, encoding = True, None
    # Latin-1 gives each byte a letter, so that all three ends of lines are found before the text is decoded.
    with io.TextIOWrapper(open_file(file, pipe=True), encoding="latin-1") as opened:
        for number, text in enumerate(lines_of(opened, file), 1):
            line, place = text.encode("latin-1"), f"line {number}"
            if number == 1:
                encoding = next((name for mark, name in _OTHER_ENCODINGS.items() if line.startswith(mark)), None)
                line = line.removeprefix(codecs.BOM_UTF8)
            if encoding or b"\x00" in line:
                name = encoding or "UTF-16 or binary"
                raise UserError(f"{file}, {place}: the file is {name}; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
            if line.strip():
                empty = False
                fields = _json_object(line.removesuffix(b"\n"), f"{file}, {place}")
                yield DataRow(fields=fields, file=str(file), place=place)
    if empty:
        raise UserError(f"{file} holds no rows; one JSON object a line is expected")


def _json_object(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(
            line.decode(),
            parse_constant=_refuse_constant,
            parse_float=WrittenFloat,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place}: not UTF-8 (byte 0x{line[error.start]:02x} at {error.start + 1}); save the file as UTF-8"
        ) from error
    except RecursionError as error:
        raise UserError(f"{place}: not JSON (nested too deeply); one object a line is expected") from error
    except _FaultError as error:
        raise UserError(f"{place}: {error}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON ({error.msg}); one object a line is expected") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: {type(row).__name__} instead of an object; one object a line is expected")
    return row


class _FaultError(ValueError):
    """What JSON's grammar or Python's reader would take otherwise than it is meant; the message holds a remedy."""


def _refuse_constant(name: str) -> NoReturn:
    raise _FaultError(f"not JSON ({name} is not of JSON); write null or text in quotes")


def _integer(written: str) -> int:
    if len(written) > _DIGITS:
        raise _FaultError(f"a number of {len(written)} digits; write it as text in quotes")
    return int(written)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _FaultError(f"the field {twice} stands twice in an object; leave one")
    return row
