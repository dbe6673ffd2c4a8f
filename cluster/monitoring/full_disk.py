"""Say that a disk is full or read-only, which Ray, Tune and MLflow report in hundreds of lines that name no folder."""

import errno
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from bridge_common.errors import UserError

LEAST_BYTES = 1 << 20
"""A disk with less than this is full: a record that does not fit leaves a part of a block free."""


def full_disk(folders: Iterable[Path]) -> str | None:
    """Return in one line which of these folders take nothing more, why, and the remedy; None if all do."""
    given = list(folders)
    if full := [str(folder) for folder in given if _is_full(folder)]:
        return _full(full)
    if closed := [str(folder) for folder in given if _is_read_only(folder)]:
        return f"read-only: {', '.join(closed)}: make it writable, then `resume` goes on from what is there"
    return None


def too_full_for_trials(storage: Path, errors: Iterable[str]) -> str | None:
    """Return that line if a trial failed because its files did not fit, though smaller ones still would; None if not.

    Args:
        storage: where trials write.
        errors: why trials failed.
    """
    return _full([str(storage)]) if any(os.strerror(errno.ENOSPC) in error for error in errors) else None


def _full(folders: Iterable[str]) -> str:
    return f"disk full: {', '.join(folders)}: free some space, then `resume` goes on from what is there"


@contextmanager
def naming_full_disks(*folders: Path) -> Iterator[None]:
    """End the command with one line if what is done inside fails while one of these folders has no room.

    Raises:
        click.exceptions.Exit: with code 1, from the failure. A wrong request, and a failure with room on all disks,
            are raised as they are.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (line := full_disk(folders)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        raise click.exceptions.Exit(1) from error


def _is_read_only(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return False
    except OSError as error:  # a mount that the kernel has closed after an error still calls itself writable
        return error.errno == errno.EROFS


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _is_full(folder: Path) -> bool:
    there = _existing(folder)
    state = os.statvfs(there)
    return state.f_bavail * state.f_frsize < LEAST_BYTES or (state.f_files > 0 and state.f_favail == 0)
