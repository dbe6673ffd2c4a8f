"""Read and write text, JSON and JSONL files atomically, so that no reader or resumed job sees an incomplete one."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.user_files import refuse_special

RESTORE = "restore it from a copy, or remove it"
_START = '{"kind"'


def write_bytes(path: Path, data: bytes | memoryview, *, durable: bool = True) -> None:
    """Replace a file atomically; missing folders are created. On any error the old file stays as it was.

    Args:
        path: the file.
        data: its content.
        durable: wait until the data is on disk. A cache that can be computed again need not wait; if the machine
            crashes, such a file may be truncated, so its reader must check its length.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a file by text in UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace a file by indented JSON, atomically.

    Raises:
        ValueError: the value contains NaN or an infinity, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, remedy: str = RESTORE) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        remedy: what a person can do if the file is damaged; the end of the error's message.

    Raises:
        UserError: the file is not JSON, such as one that a full disk or a crash cut off.
    """
    refuse_special(Path(path))
    try:
        return json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({_reason(error)}): {remedy}") from error


def read_object(path: Path, remedy: str = RESTORE) -> dict[str, Any]:
    """Read a JSON file that holds an object, as `read_json` does.

    Raises:
        UserError: the file is not JSON, or holds something else.
    """
    value = read_json(path, remedy)
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (no JSON object): {remedy}")
    return value


def json_line(row: dict[str, Any]) -> str:
    """Return a row of a JSONL file, with its newline. The order of keys is kept, so equal rows are equal bytes."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace a file by rows, one JSON object per line, atomically."""
    write_text(path, "".join(map(json_line, rows)))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a JSONL file in a single write, so that rows of several writers do not mix.

    A row that a full disk or a kill cut off before is ended by a newline first, so that it spoils no other. Files that
    are appended to are read by `read_log`, which skips such a row.
    """
    data = json_line(row).encode()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            data = b"\n" + data
        while data:  # a nearly full disk takes a part
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


def read_jsonl(path: Path, remedy: str = RESTORE) -> list[dict[str, Any]]:
    """Read the rows of a JSONL file that was written as a whole.

    Args:
        path: the file.
        remedy: what a person can do if the file is damaged; the end of the error's message.

    Raises:
        UserError: a line is not JSON, or the file does not end in a newline.
    """
    refuse_special(Path(path))
    data = Path(path).read_bytes()
    if data and not data.endswith(b"\n"):
        raise UserError(f"{path} is damaged (its last line is incomplete): {remedy}")
    rows = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            if line.strip():
                rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number} is damaged ({_reason(error)}): {remedy}") from error
    return rows


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the whole rows of a JSONL file that grows; none if there is no file.

    Rows that a killed writer or a full disk cut off are skipped.
    """
    refuse_special(Path(path))
    return log_rows(Path(path).read_bytes()) if Path(path).exists() else []


def log_rows(data: bytes) -> list[dict[str, Any]]:
    """Return the rows in the whole lines of a part of a log, parsed at once, or one by one if a line is broken."""
    lines = [line for line in data[: data.rfind(b"\n") + 1].decode(errors="replace").split("\n") if line.strip()]
    try:
        rows = json.loads(f"[{','.join(lines)}]")
        if len(rows) != len(lines):  # two broken lines that make a row together, which nobody wrote
            raise ValueError
    except (ValueError, RecursionError):
        rows = [_last_row(line) for line in lines]
    return [row for row in rows if isinstance(row, dict)]


def _last_row(line: str) -> dict[str, Any] | None:
    """Return the row of a line, or None if there is none.

    Earlier versions appended to an incomplete row: the line then holds the beginning of one row, and another whole one.
    """
    for text in (line, line[max(line.rfind(_START), 0) :]):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            continue
        return row if isinstance(row, dict) else None
    return None


def _reason(error: Exception) -> str:
    """Return in a few words why JSON could not be read."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}: {error.msg}"
    return "nested too deeply" if isinstance(error, RecursionError) else "not UTF-8"
