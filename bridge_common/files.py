"""Files that are whole or absent: a reader, or a job that resumes, never sees half of one."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes | memoryview, *, durable: bool = True) -> None:
    """Replace `path` by `data` atomically; parents are made. On any error the old file stays as it was.

    Args:
        path: the file.
        data: its content.
        durable: wait until the disk has it. A cache that can be made again need not: should the machine itself die,
            the file may be shorter than it was, which its reader has to look at.
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
    """Replace `path` by `text` (UTF-8) atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON atomically. NaN is refused: no reader agrees on what it means."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def json_line(row: dict[str, Any]) -> str:
    """One row of a JSONL file; key order is kept, so equal rows are equal bytes."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace `path` by one JSON object a line, atomically."""
    write_text(path, "".join(map(json_line, rows)))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one row in a single write, so that rows of several writers do not mix."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, json_line(row).encode())
    finally:
        os.close(handle)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file. A last line without its newline is the trace of a killed writer and is left out."""
    data = Path(path).read_text(encoding="utf-8")
    whole = data[: data.rfind("\n") + 1]
    return [json.loads(line) for line in whole.split("\n") if line.strip()]
