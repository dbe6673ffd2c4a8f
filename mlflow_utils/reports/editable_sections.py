"""Sections of a text file that a program keeps up to date, among text that people write.

A section is enclosed by two comments, which Markdown does not show:

    <!-- begin run demo/full-1a2b3c4d 0123456789ab -->
    ...
    <!-- end run demo/full-1a2b3c4d -->

The twelve digits are a hash of the generated text, by which an edited section is recognised. It is never overwritten:
when there is something new to report, the edited text is kept as plain text, and a new section follows it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from bridge_common import files
from bridge_common.errors import UserError
from bridge_common.locks import file_lock

_BEGIN = re.compile(r"<!-- begin run (\S.*?) ([0-9a-f]{12}) -->\s*")
_END = re.compile(r"<!-- end run (\S.*?) -->\s*")
LOCK = ".reports.lock"
LOCK_TIMEOUT = 60.0  # seconds to wait for another writer


@dataclass
class _Piece:
    """A part of a file: a line that people wrote (no key), or a section with its two comments."""

    text: str
    key: str | None = None
    digest: str = ""
    body: str = ""


def merge(text: str, sections: Mapping[str, str]) -> str:
    """Return a text with its sections brought up to date; everything else is kept byte for byte.

    Args:
        text: content of the file.
        sections: body of each section by key; those that the file lacks are added at its end, in this order.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    pieces = list(_pieces(text))
    for key, body in sections.items():
        new = _section(key, body, newline)
        old = next((piece for piece in pieces if piece.key == key), None)
        if old is None:
            pieces.append(_Piece(_gap(pieces, newline)))
            pieces.append(new)
        elif old.digest != new.digest:
            place = pieces.index(old)
            kept = [_Piece(old.body), _Piece(newline)] if _digest(old.body) != old.digest else []
            pieces[place : place + 1] = [*kept, new]
    return "".join(piece.text for piece in pieces)


def update(folder: Path, documents: Mapping[str, Mapping[str, str]], headers: Mapping[str, str]) -> list[Path]:
    """Bring the sections of several files up to date, one process at a time; each file is replaced atomically.

    Args:
        folder: folder of the files; created if needed.
        documents: the sections of each file: body by key, by file name.
        headers: first lines of a new or empty file, by file name.

    Returns:
        The files that changed.

    Raises:
        UserError: another process has been writing to the folder for a minute, or a file is not UTF-8 text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    try:
        with file_lock(folder / LOCK, timeout=LOCK_TIMEOUT):
            for name, sections in documents.items():
                path = (folder / name).resolve()
                before = _read(path)
                after = merge(before if before.strip() else headers.get(name, ""), sections)
                if after != before:
                    files.write_text(path, after)
                    changed.append(folder / name)
    except Timeout as error:
        raise UserError(
            f"another process has been writing reports in {folder} for {LOCK_TIMEOUT:g} s: try again"
        ) from error
    return changed


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode() if path.exists() else ""
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): save it as UTF-8, or name another folder") from error


def _pieces(text: str) -> Iterator[_Piece]:
    """Yield the file's pieces in order. A comment without its counterpart is text that people wrote."""
    lines = text.splitlines(keepends=True)
    start = 0
    while start < len(lines):
        begin = _BEGIN.fullmatch(lines[start])
        end = _end_of(lines, start, begin[1]) if begin else None
        if begin is None or end is None:
            yield _Piece(lines[start])
            start += 1
            continue
        yield _Piece("".join(lines[start : end + 1]), begin[1], begin[2], "".join(lines[start + 1 : end]))
        start = end + 1


def _end_of(lines: list[str], start: int, key: str) -> int | None:
    """Return the line of a section's end comment, or None if there is none or another section begins before it."""
    for place in range(start + 1, len(lines)):
        if _BEGIN.fullmatch(lines[place]):
            return None
        end = _END.fullmatch(lines[place])
        if end and end[1] == key:
            return place
    return None


def _section(key: str, body: str, newline: str) -> _Piece:
    body = "".join(line + newline for line in body.strip("\n").split("\n"))
    digest = _digest(body)
    text = f"<!-- begin run {key} {digest} -->{newline}{body}<!-- end run {key} -->{newline}"
    return _Piece(text, key, digest, body)


def _digest(body: str) -> str:
    """Return the hash of a body, without white space at the ends of lines, since editors trim it."""
    plain = "\n".join(line.rstrip() for line in body.strip().splitlines())
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


def _gap(pieces: list[_Piece], newline: str) -> str:
    """Return the line breaks that make an empty line between the text so far and a new section."""
    before = "".join(piece.text for piece in pieces[-2:])
    if not before or before.endswith(newline * 2):
        return ""
    return newline if before.endswith(newline) else newline * 2
