"""Digest a folder by the content of its files: all of data and code, samples of every tensor of weights."""

import hashlib
import json
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

_WHOLE = 1 << 22  # bytes; files of weights up to this size are read completely
_SAMPLE = 1 << 12  # bytes of a sample
_APART = 1 << 22  # bytes from one sample to the next, at most
_TENSOR, _FILE = 3, 1024  # samples of a large tensor, and of a large file whose tensors are not known, at least
_TEXTS = (".json", ".jsonl", ".txt", ".md", ".py", ".jinja", ".model", ".csv", ".toml", ".yaml")
_HEADER = 100_000_000  # bytes that a safetensors header has at most
_SETTLED_S = 2.0  # age of a file from which a change would show in its time

Span = tuple[int, int]  # begin and end in a file


def file_digests(folder: Path, *, whole: bool = False) -> list[list[Any]]:
    """Return name, size and digest of each file of a folder, without hidden files and folders.

    Of weights above 4 MiB (all large files but texts) every tensor is read at its start and end and every 4 MiB between
    them, so that a plan does not read 16 GB: what is trained or merged in place changes whole matrices.

    Args:
        folder: the folder.
        whole: whether every file is read whole.

    Raises:
        OSError: if a file cannot be read.
    """
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and _counts(p.relative_to(folder)))
    return [[path.relative_to(folder).as_posix(), path.stat().st_size, _content(path, whole)] for path in paths]


def _counts(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _content(path: Path, whole: bool) -> str:
    found = path.stat()
    sampled = not whole and found.st_size > _WHOLE and path.suffix not in _TEXTS
    if not sampled or time.time() - found.st_mtime < _SETTLED_S:
        return _read(path, found.st_size, sampled)
    return _read_once(path, found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=1024)
def _read_once(path: Path, size: int, changed: int, number: int) -> str:
    """Return the digest of large weights, of which a network disk may take seconds to read the samples."""
    return _read(path, size, True)


def _read(path: Path, size: int, sampled: bool) -> str:
    with path.open("rb") as file:
        if not sampled:
            return hashlib.file_digest(file, _blake).hexdigest()
        content = _blake()
        for begin, end in _places(file, size, tensors=path.suffix == ".safetensors"):
            file.seek(begin)
            content.update(file.read(end - begin))
    return content.hexdigest()


def _blake() -> Any:
    return hashlib.blake2b(digest_size=16)


def _places(file: BinaryIO, size: int, *, tensors: bool) -> Iterator[Span]:
    spans = _tensors(file, size) if tensors else None
    if spans is None:
        yield from _samples((0, size), _FILE)
        return
    for span in spans:
        yield from _samples(span, _TENSOR)


def _samples(span: Span, least: int) -> Iterator[Span]:
    begin, end = span
    count = max(least, -(-(end - begin) // _APART) + 1)
    if count * _SAMPLE >= end - begin:
        yield span
        return
    last = end - _SAMPLE
    for i in range(count):
        start = begin + i * (last - begin) // (count - 1)
        yield start, start + _SAMPLE


def _tensors(file: BinaryIO, size: int) -> list[Span] | None:
    """Return the spans of a safetensors file: its header and each of its tensors; None if it is none."""
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(size - 8, _HEADER):
        return None
    try:
        header = json.loads(file.read(length))
        spans = sorted(tuple(entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    first = 8 + length
    if not all(0 <= begin <= end <= size - first for begin, end in spans):
        return None
    return [(0, first), *((first + begin, first + end) for begin, end in spans if begin < end)]
