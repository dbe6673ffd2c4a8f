"""Open files that a user names: what could not be read to an end, as a device or a pipe that nobody writes, is refused.

Opening such a thing may wait for ever, and reading it may fill the memory.
"""

import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, AnyStr, BinaryIO

from bridge_common.errors import UserError
from bridge_common.paths import plain_path

WRITER_S = 1.0
"""How long a pipe without a writer is waited for: a shell starts both ends at once."""
LONGEST_LINE = 64 << 20
"""Bytes of a line that are read at most; what is longer is no file of lines."""
LARGEST_TEXT = 16 << 20
"""Bytes of a small file, such as settings, that are read at most."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special_kind(path: Path) -> str | None:
    """Return what a path leads to if that is there and no regular file, as in "a folder"; None otherwise."""
    try:
        mode = path.stat().st_mode
    except OSError:  # which opening it says
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)


def refuse_special(path: Path) -> None:
    """Refuse a path that leads to something other than a regular file; a missing one passes.

    Raises:
        UserError: with what it is.
    """
    if kind := special_kind(path):
        raise UserError(f"cannot read {plain_path(path)}: it is {kind}; name a regular file")


def open_file(path: Path, *, pipe: bool = False) -> BinaryIO:
    """Open a file that a user named.

    Args:
        path: the file.
        pipe: whether it may be a pipe, such as `/dev/stdin` or a shell's `<(command)`, which can be read once only.

    Raises:
        UserError: it cannot be opened, is neither file nor pipe, or is a pipe that nobody writes.
    """
    if not pipe or special_kind(path) != "a pipe":
        refuse_special(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # which waits for no pipe's writer
    except OSError as error:
        raise UserError(
            f"cannot read {plain_path(path)} ({error.strerror}): check the path and its permissions"
        ) from error
    try:
        if stat.S_ISFIFO(os.fstat(handle).st_mode) and not _has_writer(handle):
            raise UserError(f"cannot read {plain_path(path)}: it is a pipe that nobody writes; start its writer first")
        os.set_blocking(handle, True)
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_text(path: Path, *, pipe: bool = False) -> str:
    """Return the text of a small file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        pipe: whether it may be a pipe.

    Raises:
        UserError: as `open_file`, or the file is too large, or not in UTF-8.
    """
    with open_file(path, pipe=pipe) as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise UserError(f"cannot read {plain_path(path)}: it has more than {LARGEST_TEXT >> 20} MiB; name another file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {plain_path(path)}: not UTF-8 (at byte {error.start + 1})") from error


def lines_of(file: IO[AnyStr], path: Path) -> Iterator[AnyStr]:
    """Yield the lines of an open file, each with its end.

    Args:
        file: the file.
        path: its name, for messages.

    Raises:
        UserError: if a line is longer than `LONGEST_LINE`, as in a file without any.
    """
    number = 0
    while line := _line(file, path):
        number += 1
        if len(line) > LONGEST_LINE:
            raise UserError(
                f"{path}, line {number}: longer than {LONGEST_LINE >> 20} MiB; one object a line is expected"
            )
        yield line


def _line(file: IO[AnyStr], path: Path) -> AnyStr:
    try:
        return file.readline(LONGEST_LINE + 1)
    except OSError as error:  # as of a disk that fails
        raise UserError(f"cannot read {plain_path(path)} ({error.strerror})") from error


def _has_writer(handle: int) -> bool:
    """Return whether a pipe has or had a writer, or gets one soon."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)  # a pipe without a name tells at once that all its writers are gone
    if poll.poll(0) or os.readlink(f"/proc/self/fd/{handle}").startswith("pipe:"):
        return True
    if poll.poll(1000 * WRITER_S):
        return True
    try:
        os.read(handle, 1)  # takes nothing, as there is nothing
    except BlockingIOError:
        return True  # a writer that has nothing to say yet
    return False
