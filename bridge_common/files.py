"""Read and write text, JSON and JSONL files atomically, so that no reader or resumed job sees an incomplete one."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


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
        os.unlink(name)
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


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def json_line(row: dict[str, Any]) -> str:
    """Return a row of a JSONL file, with its newline. The order of keys is kept, so equal rows are equal bytes."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace a file by rows, one JSON object per line, atomically."""
    write_text(path, "".join(map(json_line, rows)))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a JSONL file in a single write, so that rows of several writers do not mix."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, json_line(row).encode())
    finally:
        os.close(handle)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSONL file, without an incomplete last line, which a killed writer leaves."""
    data = Path(path).read_text(encoding="utf-8")
    whole = data[: data.rfind("\n") + 1]
    return [json.loads(line) for line in whole.split("\n") if line.strip()]
